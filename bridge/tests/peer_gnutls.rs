//! TLS against GnuTLS, with the priorities that daemons set, in both directions.
#![allow(clippy::unwrap_used)]

mod key_support;
mod peer_support;
mod skip_support;

use key_support::keys;
use peer_support::*;
use rustls::{ProtocolVersion, Stream};
use skip_support::skip;
use starling_bridge::crypto::AwsLc;
use starling_bridge::peer::tls::{TlsIdentity, WrongPeer};
use starling_core::identity::{create_account, private_key_from_pem};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// What dhtnet gives to GnuTLS.
const PRIORITIES: &str = "SECURE192:-KX-ALL:+ANON-ECDH:+ANON-DH:+SECURE192:-RSA:\
    -GROUP-FFDHE4096:-GROUP-FFDHE6144:-GROUP-FFDHE8192:+GROUP-X25519:\
    %SERVER_PRECEDENCE:%SAFE_RENEGOTIATION";

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/peer/");

/// What is spoken with Bob, and what he shows.
#[derive(Clone, Copy)]
enum Bob {
    /// As daemons do today.
    Today,
    /// The older version that daemons still allow.
    Tls12,
    /// With his own key and certificate, below the certificates of Alice's account.
    Bent,
}

impl Bob {
    fn priorities(self) -> String {
        match self {
            Self::Tls12 => format!("{PRIORITIES}:-VERS-ALL:+VERS-TLS1.2"),
            Self::Today | Self::Bent => PRIORITIES.to_owned(),
        }
    }

    fn version(self) -> ProtocolVersion {
        match self {
            Self::Tls12 => ProtocolVersion::TLSv1_2,
            Self::Today | Self::Bent => ProtocolVersion::TLSv1_3,
        }
    }

    /// His chain, as a file.
    fn chain(self, dir: &Path) -> PathBuf {
        let whole =
            |name: &str| std::fs::read_to_string(format!("{DATA}{name}-chain.pem")).unwrap();
        let (own, other) = (whole("ben"), whole("ann"));
        let end = "-----END CERTIFICATE-----\n";
        let shown = match self {
            Self::Today | Self::Tls12 => own,
            Self::Bent => {
                let leaf = own.split_inclusive(end).take(1);
                leaf.chain(other.split_inclusive(end).skip(1)).collect()
            }
        };
        let path = dir.join("chain.pem");
        std::fs::write(&path, shown).unwrap();
        path
    }
}

/// Runs until it is dropped, with its files.
struct Running(
    Child,
    #[expect(dead_code, reason = "held")] tempfile::TempDir,
);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn gnutls(bob: Bob, program: &str, arguments: &[&str]) -> Option<Running> {
    let dir = tempfile::tempdir().unwrap();
    let child = Command::new(program)
        .args(arguments)
        .args(["--priority", &bob.priorities()])
        .arg(format!(
            "--x509certfile={}",
            bob.chain(dir.path()).display()
        ))
        .arg(format!("--x509keyfile={DATA}ben-device.key"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn();
    match child {
        Ok(child) => Some(Running(child, dir)),
        Err(error) => {
            skip(&format!("{program} (Debian package gnutls-bin): {error}"));
            None
        }
    }
}

fn identity() -> TlsIdentity {
    let alice = alice();
    TlsIdentity::new(&alice.chain, alice.key.as_ref(), Arc::new(AwsLc)).unwrap()
}

/// A port that nobody else is given meanwhile: below those that the system hands out, and for each process
/// others.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + u16::try_from(std::process::id() % 600).unwrap() * 20;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 20;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn connect(port: u16) -> TcpStream {
    for _ in 0..200 {
        if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
            stream
                .set_read_timeout(Some(Duration::from_secs(20)))
                .unwrap();
            return stream;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("gnutls-serv does not listen");
}

fn serv(bob: Bob, port: u16) -> Option<Running> {
    let port = port.to_string();
    gnutls(
        bob,
        "gnutls-serv",
        &["--echo", "--require-client-cert", "--port", &port],
    )
}

fn wrong_peer(error: &std::io::Error) -> Option<WrongPeer> {
    WrongPeer::of(error.get_ref()?.downcast_ref()?)
}

#[test]
fn our_client_and_their_server() {
    our_client(Bob::Today);
}

#[test]
fn our_client_and_their_older_server() {
    our_client(Bob::Tls12);
}

fn our_client(how: Bob) {
    let port = free_port();
    let Some(mut server) = serv(how, port) else {
        return;
    };
    let mut tcp = connect(port);
    let mut tls = identity().client(bob().chain).unwrap();
    let mut stream = Stream::new(&mut tls, &mut tcp);
    stream.write_all(b"hello bob\n").unwrap();
    let mut echo = [0; 10];
    stream.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"hello bob\n");
    assert_eq!(tls.protocol_version(), Some(how.version()));
    assert_eq!(tls.peer_certificates().unwrap().len(), 3);
    // Daemons ask for this, and drop who does not have it.
    let mut seen = String::new();
    for line in BufReader::new(server.0.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        seen += &line;
        if line.contains("Options:") {
            assert!(line.contains("safe renegotiation"), "{line}");
            return;
        }
    }
    panic!("gnutls-serv says nothing about safe renegotiation: {seen}");
}

/// What our client says of whom it meets in place of somebody.
fn met(how: Bob, expected: Person) -> Option<WrongPeer> {
    let port = free_port();
    let _server = serv(how, port)?;
    let mut tcp = connect(port);
    let mut tls = identity().client(expected.chain).unwrap();
    let error = Stream::new(&mut tls, &mut tcp)
        .write_all(b"hello carol\n")
        .unwrap_err();
    Some(wrong_peer(&error).unwrap())
}

#[test]
fn our_client_meets_another_device() {
    for how in [Bob::Today, Bob::Tls12] {
        let Some(wrong) = met(how, carol()) else {
            return;
        };
        assert_eq!(wrong, WrongPeer::Key);
    }
}

#[test]
fn our_client_meets_a_bent_chain() {
    let Some(wrong) = met(Bob::Bent, bob()) else {
        return;
    };
    assert!(matches!(wrong, WrongPeer::Chain(_)), "{wrong}");
}

/// The device that is expected, by its key, in another account than the one it was met in.
#[test]
fn a_device_comes_with_the_chain_of_another_account() {
    let now = 1_780_000_000;
    let (mut archive, _) = create_account(&AwsLc, now, keys()).unwrap();
    let ben = std::fs::read(format!("{DATA}ben-device.key")).unwrap();
    let moved = archive
        .new_device(&AwsLc, now, private_key_from_pem(&AwsLc, &ben).unwrap())
        .unwrap();
    assert_eq!(moved.device_id(), bob().device());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut there = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut here, _) = listener.accept().unwrap();
    let server = std::thread::spawn(move || {
        let key = moved.device_key.as_ref();
        let shown = TlsIdentity::new(&moved.chain, key, Arc::new(AwsLc)).unwrap();
        let mut tls = shown.server(alice().chain).unwrap();
        let _ = Stream::new(&mut tls, &mut here).read(&mut [0; 1]);
    });
    let mut tls = identity().client(bob().chain).unwrap();
    let error = Stream::new(&mut tls, &mut there)
        .write_all(b"hello bob\n")
        .unwrap_err();
    assert_eq!(wrong_peer(&error), Some(WrongPeer::Account));
    drop(there);
    server.join().unwrap();
}

fn cli_at_our_server(how: Bob, expected: Person) -> Option<std::io::Result<[u8; 10]>> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let arguments = ["--insecure", "--disable-sni", "--port", &port, "127.0.0.1"];
    let mut client = gnutls(how, "gnutls-cli", &arguments)?;
    client
        .0
        .stdin
        .as_mut()
        .unwrap()
        .write_all(b"hello ann\n")
        .unwrap();
    let (mut tcp, _) = listener.accept().unwrap();
    tcp.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut tls = identity().server(expected.chain).unwrap();
    let mut stream = Stream::new(&mut tls, &mut tcp);
    let mut said = [0; 10];
    Some(stream.read_exact(&mut said).map(|()| said))
}

#[test]
fn their_client_and_our_server() {
    for how in [Bob::Today, Bob::Tls12] {
        let Some(said) = cli_at_our_server(how, bob()) else {
            return;
        };
        assert_eq!(&said.unwrap(), b"hello ann\n");
    }
}

#[test]
fn a_bent_chain_at_our_server() {
    let Some(said) = cli_at_our_server(Bob::Bent, bob()) else {
        return;
    };
    let wrong = wrong_peer(&said.unwrap_err());
    assert!(matches!(wrong, Some(WrongPeer::Chain(_))), "{wrong:?}");
}

#[test]
fn another_device_at_our_server() {
    let Some(said) = cli_at_our_server(Bob::Today, carol()) else {
        return;
    };
    let error = said.unwrap_err();
    assert_eq!(wrong_peer(&error), Some(WrongPeer::Key));
}
