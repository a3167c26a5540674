//! `cargo xtask demo`: a client and a server over loopback, and pathtrace showing what happens between them.

use std::{
    ffi::OsStr,
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    build::{self, Linking},
    privilege::Privilege,
    process::{describe, step},
    workspace::Workspace,
};

/// Enough to see the pattern, little enough to read.
const PATHS: &str = "30";
/// Ends the demo where something keeps the traffic from being seen.
const LONGEST: &str = "8s";
const MESSAGE: [u8; 100] = [b'.'; 100];
const PAUSE: Duration = Duration::from_millis(100);
/// Each connection shows its handshake and its end as well.
const MESSAGES_PER_CONNECTION: usize = 8;

/// Builds pathtrace and runs it on real traffic; says whether it went well.
pub fn demo(workspace: &Workspace, port: u16) -> Result<bool> {
    let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(listener) => listener,
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            bail!("port {port} is taken by another program: choose one with `cargo xtask demo --port N`")
        }
        Err(error) => return Err(error).with_context(|| format!("cannot listen on 127.0.0.1:{port}")),
    };
    let Some(privilege) = Privilege::any() else {
        bail!("tracing needs root: run the demo as root, or where sudo works");
    };
    let pathtrace = build::build(workspace, Linking::Dynamic)?;
    let mut command = privilege.command(&[] as &[(&str, &OsStr)], &pathtrace);
    command.args(["--port", &port.to_string(), "--count", PATHS, "--duration", LONGEST]);
    step(&format!("a client sends 100 bytes to 127.0.0.1:{port} every 100 ms, a server sends them back"));
    step(&describe(&command));
    run(&mut command, &listener)
}

fn run(command: &mut Command, listener: &TcpListener) -> Result<bool> {
    let address = listener.local_addr().context("the server has no address")?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| serve(listener, &done));
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                // The server is in this process; when it is gone the demo is over.
                let _ = TcpStream::connect(address).and_then(|stream| talk(stream, &done));
            }
        });
        let start = Instant::now();
        let status = command.spawn().and_then(|mut pathtrace| {
            leave_interrupts_to_child();
            pathtrace.wait()
        });
        let status = status.context("cannot start pathtrace");
        done.store(true, Ordering::Relaxed);
        // Wakes the server, which waits for a connection.
        let _ = TcpStream::connect(address);
        let status = status?;
        step(&format!("pathtrace ended after {:.1} s ({status})", start.elapsed().as_secs_f64()));
        Ok(status.success())
    })
}

/// Ctrl-C reaches every process of the terminal. pathtrace answers it with its summary, and this process has to be
/// there until the summary is out: else the shell's prompt comes in between.
fn leave_interrupts_to_child() {
    // SAFETY: ignoring a signal installs no code that could run at a wrong moment.
    unsafe {
        libc::signal(libc::SIGINT, libc::SIG_IGN);
    }
}

/// Sends every message back, connection after connection.
fn serve(listener: &TcpListener, done: &AtomicBool) {
    for stream in listener.incoming() {
        if done.load(Ordering::Relaxed) {
            return;
        }
        if let Ok(mut stream) = stream {
            let mut message = [0; MESSAGE.len()];
            while stream.read_exact(&mut message).and_then(|()| stream.write_all(&message)).is_ok() {}
        }
    }
}

/// A few messages and their answers.
fn talk(mut stream: TcpStream, done: &AtomicBool) -> std::io::Result<()> {
    let mut answer = [0; MESSAGE.len()];
    for _ in 0..MESSAGES_PER_CONNECTION {
        if done.load(Ordering::Relaxed) {
            break;
        }
        stream.write_all(&MESSAGE)?;
        stream.read_exact(&mut answer)?;
        thread::sleep(PAUSE);
    }
    Ok(())
}
