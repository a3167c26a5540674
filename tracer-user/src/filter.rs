//! What is wanted, checked: what the kernel filters and which probe points that needs.

use tracer_common::{
    probes::{ProbePoint, Traffic},
    settings::MAX_PORTS,
};

/// A filter that cannot be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Too many ports.
    #[error(
        "{given} ports given, the kernel side compares at most {MAX_PORTS}; trace without --port and select afterwards"
    )]
    TooManyPorts {
        /// How many.
        given: usize,
    },
    /// Port 0.
    #[error("port 0 is no port; valid ports are 1 to 65535")]
    PortZero,
}

/// The traffic that is wanted. Kinds are joined with AND, values of one kind with OR.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    ports: Vec<u16>,
}

impl Filter {
    /// A filter for traffic with one of these ports at either end; all traffic if there are none.
    pub fn new(ports: &[u16]) -> Result<Self, FilterError> {
        let mut ports = ports.to_vec();
        ports.sort_unstable();
        ports.dedup();
        if ports.contains(&0) {
            return Err(FilterError::PortZero);
        }
        if ports.len() > MAX_PORTS {
            return Err(FilterError::TooManyPorts { given: ports.len() });
        }
        Ok(Self { ports })
    }

    /// The ports as the kernel side has them: the rest is 0.
    pub fn kernel_ports(&self) -> [u16; MAX_PORTS] {
        let mut all = [0; MAX_PORTS];
        for (slot, port) in all.iter_mut().zip(&self.ports) {
            *slot = *port;
        }
        all
    }

    /// Whether a probe point can see anything that the filter wants.
    pub fn needs(&self, point: &ProbePoint) -> bool {
        self.ports.is_empty() || point.traffic != Traffic::Unix
    }
}

#[cfg(test)]
mod tests {
    use tracer_common::probes::PROBES;

    use super::*;

    #[test]
    fn ports_are_checked() {
        assert_eq!(Filter::new(&[0]), Err(FilterError::PortZero));
        assert_eq!(Filter::new(&[1, 2, 3, 4, 5, 6, 7, 8, 9]), Err(FilterError::TooManyPorts { given: 9 }));
        let filter = Filter::new(&[443, 80, 443]).unwrap();
        assert_eq!(filter.kernel_ports(), [80, 443, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_port_leaves_unix_sockets_alone() {
        let needed = |filter: &Filter| PROBES.iter().filter(|point| filter.needs(point)).count();
        assert_eq!(needed(&Filter::default()), PROBES.len());
        assert_eq!(needed(&Filter::new(&[80]).unwrap()), PROBES.len() - 2);
    }
}
