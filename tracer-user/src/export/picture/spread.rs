//! Labels side by side: each as near as can be to what it names, and none over another.

/// Where the middles of labels go that would like to be at `wanted` (in rising order) and take `sizes` there, so that none
/// overlaps and all are between `from` and `to`. The sum of the squares of the distances is the smallest one. If they
/// do not fit, they begin at `from` and reach beyond `to`.
pub(super) fn spread(wanted: &[f64], sizes: &[f64], from: f64, to: f64) -> Vec<f64> {
    // With what stands before each one taken off, "no overlap" is "not falling", which is isotonic regression.
    let before: Vec<f64> = sizes
        .iter()
        .scan(0.0, |sum, size| {
            let middle = *sum + size / 2.0;
            *sum += size;
            Some(middle)
        })
        .collect();
    let room = (to - from - sizes.iter().sum::<f64>()).max(0.0);
    let starts: Vec<f64> = wanted.iter().zip(&before).map(|(at, before)| at - before).collect();
    let middles = not_falling(&starts).into_iter().zip(before);
    middles.map(|(start, before)| start.clamp(from, from + room) + before).collect()
}

/// The nearest values that do not fall: neighbours in the wrong order share their mean.
fn not_falling(values: &[f64]) -> Vec<f64> {
    let mut pools: Vec<(f64, usize)> = Vec::new();
    for value in values {
        let (mut sum, mut count) = (*value, 1);
        while let Some((other, others)) =
            pools.pop_if(|(other, others)| mean(*other, *others) > mean(sum, count))
        {
            sum += other;
            count += others;
        }
        pools.push((sum, count));
    }
    pools.iter().flat_map(|(sum, count)| std::iter::repeat_n(mean(*sum, *count), *count)).collect()
}

fn mean(sum: f64, count: usize) -> f64 {
    sum / count as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn labels_with_room_stay_where_they_belong() {
        assert_eq!(spread(&[10.0, 50.0, 90.0], &[10.0; 3], 0.0, 100.0), [10.0, 50.0, 90.0]);
    }

    #[test]
    fn crowded_labels_make_room_on_both_sides() {
        assert_eq!(spread(&[50.0, 50.0, 50.0], &[10.0; 3], 0.0, 100.0), [40.0, 50.0, 60.0]);
        assert_eq!(spread(&[0.0, 1.0], &[10.0; 2], 0.0, 100.0), [5.0, 15.0]);
        assert_eq!(spread(&[99.0, 100.0], &[10.0, 20.0], 0.0, 100.0), [75.0, 90.0]);
    }

    #[test]
    fn what_does_not_fit_begins_at_the_beginning() {
        assert_eq!(spread(&[1.0, 2.0], &[10.0; 2], 0.0, 15.0), [5.0, 15.0]);
        assert!(spread(&[], &[], 0.0, 100.0).is_empty());
    }

    proptest! {
        #[test]
        fn none_overlaps_and_none_is_outside(labels in prop::collection::vec((0.0..500.0, 1.0..20.0), 0..25)) {
            let (mut wanted, sizes): (Vec<f64>, Vec<f64>) = labels.into_iter().unzip();
            wanted.sort_by(f64::total_cmp);
            let middles = spread(&wanted, &sizes, 0.0, 500.0);
            let mut end = 0.0;
            for (middle, size) in middles.iter().zip(&sizes) {
                prop_assert!(middle - size / 2.0 >= end - 1e-6, "{middles:?}");
                end = middle + size / 2.0;
            }
            prop_assert!(end <= 500.0 + 1e-6, "{middles:?}");
        }
    }
}
