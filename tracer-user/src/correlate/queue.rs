//! A queue that is mostly short.

use std::collections::VecDeque;

use arrayvec::ArrayVec;

/// The first `N` lie in place: of thousands of queues most hold one or two, and memory of their own for each would be as
/// large again, and one more place to wait for.
#[derive(Debug)]
pub(super) struct Queue<T, const N: usize> {
    first: ArrayVec<T, N>,
    /// What comes behind; nothing, unless `first` is full.
    #[allow(clippy::box_collection, reason = "a list that is not there has the size of a pointer")]
    rest: Option<Box<VecDeque<T>>>,
}

impl<T, const N: usize> Default for Queue<T, N> {
    fn default() -> Self {
        Self { first: ArrayVec::new(), rest: None }
    }
}

impl<T, const N: usize> Queue<T, N> {
    pub(super) fn len(&self) -> usize {
        self.first.len() + self.rest.as_ref().map_or(0, |rest| rest.len())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    pub(super) fn get(&self, at: usize) -> Option<&T> {
        self.first.get(at).or_else(|| self.rest.as_ref()?.get(at.checked_sub(N)?))
    }

    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        match at.checked_sub(N) {
            None => self.first.get_mut(at),
            Some(behind) => self.rest.as_mut()?.get_mut(behind),
        }
    }

    pub(super) fn front(&self) -> Option<&T> {
        self.first.first()
    }

    pub(super) fn back(&self) -> Option<&T> {
        self.rest.as_ref().and_then(|rest| rest.back()).or_else(|| self.first.last())
    }

    pub(super) fn push_back(&mut self, value: T) {
        if let Err(full) = self.first.try_push(value) {
            self.rest.get_or_insert_default().push_back(full.element());
        }
    }

    pub(super) fn pop_front(&mut self) -> Option<T> {
        self.remove(0)
    }

    pub(super) fn insert(&mut self, at: usize, value: T) {
        let Some(behind) = at.checked_sub(N) else {
            let last = if self.first.is_full() { self.first.pop() } else { None };
            self.first.insert(at, value);
            if let Some(last) = last {
                self.rest.get_or_insert_default().push_front(last);
            }
            return;
        };
        self.rest.get_or_insert_default().insert(behind, value);
    }

    pub(super) fn remove(&mut self, at: usize) -> Option<T> {
        if let Some(behind) = at.checked_sub(N) {
            return self.rest.as_mut()?.remove(behind);
        }
        let removed = self.first.pop_at(at)?;
        self.first.extend(self.rest.as_mut().and_then(|rest| rest.pop_front()));
        Some(removed)
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &T> {
        self.first.iter().chain(self.rest.iter().flat_map(|rest| rest.iter()))
    }

    /// How many come first of which `is_before` is true; behind those it is of none.
    pub(super) fn partition_point(&self, is_before: impl Fn(&T) -> bool) -> usize {
        match &self.rest {
            Some(rest) if self.first.last().is_some_and(&is_before) => {
                self.first.len() + rest.partition_point(is_before)
            }
            _ => self.first.partition_point(is_before),
        }
    }

    pub(super) fn retain(&mut self, stays: impl Fn(&T) -> bool) {
        self.first.retain(|value| stays(value));
        if let Some(rest) = &mut self.rest {
            rest.retain(stays);
            while !self.first.is_full()
                && let Some(value) = rest.pop_front()
            {
                self.first.push(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_queue(steps: Vec<(u8, usize, u32)>) {
            let (mut queue, mut same) = (Queue::<u32, 2>::default(), VecDeque::new());
            for (what, at, value) in steps {
                match what % 6 {
                    0 | 1 => {
                        queue.push_back(value);
                        same.push_back(value);
                    }
                    2 => prop_assert_eq!(queue.pop_front(), same.pop_front()),
                    3 => {
                        let at = at % (same.len() + 1);
                        queue.insert(at, value);
                        same.insert(at, value);
                    }
                    4 => {
                        let at = at % (same.len() + 2);
                        prop_assert_eq!(queue.get(at), same.get(at));
                        prop_assert_eq!(queue.get_mut(at), same.get_mut(at));
                        prop_assert_eq!(queue.remove(at), same.remove(at));
                    }
                    _ if value % 8 == 0 => {
                        queue.retain(|value| value % 3 != 0);
                        same.retain(|value| value % 3 != 0);
                    }
                    _ => {
                        let bound = value;
                        let mut sorted: Vec<u32> = same.iter().copied().collect();
                        sorted.sort_unstable();
                        let mut ordered = Queue::<u32, 2>::default();
                        // More than there is, so that what is behind has been used.
                        (0..3).chain(sorted.iter().copied()).for_each(|value| ordered.push_back(value));
                        (0..3).for_each(|_| _ = ordered.pop_front());
                        let point = |value: &u32| *value <= bound;
                        prop_assert_eq!(ordered.partition_point(point), sorted.partition_point(point));
                    }
                }
                prop_assert!(queue.iter().eq(&same));
                prop_assert!(queue.iter().rev().eq(same.iter().rev()));
                prop_assert_eq!((queue.len(), queue.is_empty()), (same.len(), same.is_empty()));
                prop_assert_eq!((queue.front(), queue.back()), (same.front(), same.back()));
            }
        }
    }
}
