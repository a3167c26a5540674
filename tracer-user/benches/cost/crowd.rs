//! Many connections at once, served by one thread at each end.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use pathtrace::{kernel::clock::monotonic_now_ns, workload::pin};

use crate::{
    group,
    traffic::{Figures, PROCESSES},
};

/// How many.
const CONNECTIONS: usize = 64;
/// Bytes of a message.
const BYTES: usize = group::CONNECTION as usize;
/// How long a read may take: longer than anything that is right.
const PATIENCE: Duration = Duration::from_secs(30);

/// The connections.
pub(crate) struct Crowd {
    asking: Vec<TcpStream>,
    answering: Vec<TcpStream>,
    port: u16,
    cpu: usize,
}

impl Crowd {
    /// Connects them. Both ends will run on this CPU.
    pub(crate) fn connect(cpu: usize) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (mut asking, mut answering) = (Vec::new(), Vec::new());
        for _ in 0..CONNECTIONS {
            asking.push(TcpStream::connect(listener.local_addr()?)?);
            answering.push(listener.accept()?.0);
        }
        for stream in asking.iter().chain(&answering) {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
        }
        Ok(Self { asking, answering, port: listener.local_addr()?.port(), cpu })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// In each turn a message goes over each connection, and then an answer comes over each.
    pub(crate) fn turns(&self, turns: u32) -> Result<Figures> {
        let moments = thread::scope(|scope| -> Result<Vec<u64>> {
            let [client, server] = PROCESSES.map(|name| thread::Builder::new().name(name.into()));
            let answering = server.spawn_scoped(scope, || self.answer(turns))?;
            let asking = client.spawn_scoped(scope, || self.ask(turns))?;
            let moments = asking.join().ok().context("the client panicked")??;
            answering.join().ok().context("the server panicked")??;
            Ok(moments)
        })?;
        let turns = moments.windows(2).map(|moments| moments[1] - moments[0]).collect();
        let mut figures = Figures::of_round_trips(turns);
        // A turn is a message of each.
        figures.count *= CONNECTIONS as u64;
        figures.seen = figures.count;
        Ok(figures)
    }

    fn ask(&self, turns: u32) -> Result<Vec<u64>> {
        pin(self.cpu)?;
        let mut message = [0; BYTES];
        let mut moments = vec![monotonic_now_ns()];
        for _ in 0..turns {
            for mut stream in &self.asking {
                stream.write_all(&message)?;
            }
            for mut stream in &self.asking {
                stream.read_exact(&mut message)?;
            }
            moments.push(monotonic_now_ns());
        }
        Ok(moments)
    }

    fn answer(&self, turns: u32) -> Result<()> {
        pin(self.cpu)?;
        let mut message = [0; BYTES];
        for _ in 0..turns {
            for mut stream in &self.answering {
                stream.read_exact(&mut message)?;
                stream.write_all(&message)?;
            }
        }
        Ok(())
    }
}
