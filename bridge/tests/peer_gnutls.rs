//! TLS against GnuTLS, with the priorities that daemons set, in both directions.
#![allow(clippy::unwrap_used)]

mod peer_support;
mod skip_support;

use peer_support::*;
use rustls::Stream;
use skip_support::skip;
use starling_bridge::crypto::AwsLc;
use starling_bridge::peer::tls::{TlsIdentity, WrongPeer};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// What dhtnet gives to GnuTLS.
const PRIORITIES: &str = "SECURE192:-KX-ALL:+ANON-ECDH:+ANON-DH:+SECURE192:-RSA:\
    -GROUP-FFDHE4096:-GROUP-FFDHE6144:-GROUP-FFDHE8192:+GROUP-X25519:\
    %SERVER_PRECEDENCE:%SAFE_RENEGOTIATION";

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn gnutls(program: &str, arguments: &[&str]) -> Option<Running> {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/peer/");
    let child = Command::new(program)
        .args(arguments)
        .args(["--priority", PRIORITIES])
        .arg(format!("--x509certfile={data}ben-chain.pem"))
        .arg(format!("--x509keyfile={data}ben-device.key"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn();
    match child {
        Ok(child) => Some(Running(child)),
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

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
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

fn serv(port: u16) -> Option<Running> {
    let port = port.to_string();
    gnutls(
        "gnutls-serv",
        &["--echo", "--require-client-cert", "--port", &port],
    )
}

fn wrong_peer(error: &std::io::Error) -> Option<WrongPeer> {
    WrongPeer::of(error.get_ref()?.downcast_ref()?)
}

#[test]
fn our_client_and_their_server() {
    let port = free_port();
    let Some(mut server) = serv(port) else { return };
    let mut tcp = connect(port);
    let mut tls = identity().client(bob().chain).unwrap();
    let mut stream = Stream::new(&mut tls, &mut tcp);
    stream.write_all(b"hello bob\n").unwrap();
    let mut echo = [0; 10];
    stream.read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"hello bob\n");
    assert_eq!(
        tls.protocol_version(),
        Some(rustls::ProtocolVersion::TLSv1_3)
    );
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

#[test]
fn our_client_meets_another_device() {
    let port = free_port();
    let Some(_server) = serv(port) else { return };
    let mut tcp = connect(port);
    let mut tls = identity().client(carol().chain).unwrap();
    let error = Stream::new(&mut tls, &mut tcp)
        .write_all(b"hello carol\n")
        .unwrap_err();
    assert_eq!(wrong_peer(&error), Some(WrongPeer::Key));
}

fn cli_at_our_server(expected: Person) -> Option<std::io::Result<[u8; 10]>> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let arguments = ["--insecure", "--disable-sni", "--port", &port, "127.0.0.1"];
    let mut client = gnutls("gnutls-cli", &arguments)?;
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
    let Some(said) = cli_at_our_server(bob()) else {
        return;
    };
    assert_eq!(&said.unwrap(), b"hello ann\n");
}

#[test]
fn another_device_at_our_server() {
    let Some(said) = cli_at_our_server(carol()) else {
        return;
    };
    let error = said.unwrap_err();
    assert_eq!(wrong_peer(&error), Some(WrongPeer::Key));
}
