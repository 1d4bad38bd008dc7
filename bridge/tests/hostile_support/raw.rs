//! A connection whose channels are made by hand: ICE and TLS as they should be, and then any bytes.

use super::Hostile;
use crate::account_support::PATIENCE;
use rustls::ServerConnection;
use starling_bridge::crypto::AwsLc;
use starling_bridge::peer::tls::TlsIdentity;
use starling_bridge::peer::{Family, Signalling as _};
use starling_core::crypto::Crypto as _;
use starling_core::id::DeviceId;
use starling_core::identity::Identity;
use starling_core::peer::ice::{self, Agent, ConnId, Output, Role};
use starling_core::peer::ice_text::{Candidate, CandidateType, Credentials, IceText, TcpType};
use starling_core::peer::request::{MAX_ID, PeerRequest};
use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Both ends with the connection, whoever ends it.
pub struct Raw {
    /// Bytes inside TLS, for the other side.
    pub out: mpsc::Sender<Vec<u8>>,
    /// Bytes inside TLS, from the other side. Those that nobody takes are dropped.
    pub come: mpsc::Receiver<Vec<u8>>,
}

impl Raw {
    /// Asks a device for a connection, and shows that identity in TLS.
    pub async fn connect(eve: &Hostile, device: DeviceId, shown: &Identity) -> Self {
        let chain = eve.manager.certificate(device, None).await.unwrap();
        let (mut random, mut entropy) = ([0; 16], [0; 32]);
        AwsLc.random(&mut random);
        AwsLc.random(&mut entropy);
        let id = u64::from_be_bytes(random[..8].try_into().unwrap()) % MAX_ID + 1;
        let credentials = Credentials::from_random(random);
        // Nobody is there: the connection is made from here.
        let nobody = "192.0.2.1:9".parse().unwrap();
        let text = IceText {
            credentials: credentials.clone(),
            candidates: vec![Candidate::new(
                CandidateType::Host,
                TcpType::Active,
                nobody,
                65_535,
            )],
        };
        let request = PeerRequest {
            id,
            ice_msg: text.to_string(),
            is_answer: false,
            conn_type: String::new(),
        };
        let mut signals = eve.signalling.listen();
        eve.signalling
            .send(&chain.device, &request, &[Family::Long])
            .await
            .unwrap();
        let answer = tokio::time::timeout(PATIENCE, async {
            loop {
                let signal = signals.recv().await.unwrap();
                if signal.request.is_answer && signal.request.id == id {
                    return IceText::parse(&signal.request.ice_msg).unwrap();
                }
            }
        })
        .await
        .unwrap();
        let agent = Agent::new(ice::Config {
            role: Role::Controlled,
            credentials,
            entropy,
            ipv4: true,
            ipv6: true,
            loopback: true,
            nomination_delay: Duration::from_millis(400),
            limits: ice::Limits::default(),
        });
        let identity =
            TlsIdentity::new(&shown.chain, shown.device_key.as_ref(), Arc::new(AwsLc)).unwrap();
        let mut tls = identity.server(chain).unwrap();
        tls.set_buffer_limit(None);
        let (out, send) = mpsc::channel(4);
        let (came, come) = mpsc::channel(1024);
        tokio::spawn(async move {
            let _ = drive(agent, answer, tls, send, came).await;
        });
        Self { out, come }
    }

    /// Until the other side ends the connection.
    pub async fn wait_for_end(&mut self) {
        let ended = async { while self.come.recv().await.is_some() {} };
        tokio::time::timeout(PATIENCE, ended).await.unwrap();
    }
}

enum Net {
    Connected(ConnId, io::Result<TcpStream>),
    Bytes(ConnId, Vec<u8>),
    Closed(ConnId),
}

async fn drive(
    mut agent: Agent,
    answer: IceText,
    mut tls: ServerConnection,
    mut send: mpsc::Receiver<Vec<u8>>,
    came: mpsc::Sender<Vec<u8>>,
) -> io::Result<()> {
    let start = Instant::now();
    let (net_tx, mut net) = mpsc::channel(64);
    let mut writers: BTreeMap<ConnId, OwnedWriteHalf> = BTreeMap::new();
    let mut selected = false;
    agent.set_remote(Duration::ZERO, &answer);
    loop {
        let mut moved = true;
        while moved {
            moved = false;
            while let Some(output) = agent.poll_output() {
                match output {
                    Output::Connect(id, to) => {
                        let net = net_tx.clone();
                        tokio::spawn(async move {
                            let result = TcpStream::connect(to).await;
                            let _ = net.send(Net::Connected(id, result)).await;
                        });
                    }
                    Output::Send(id, bytes) => {
                        if let Some(writer) = writers.get_mut(&id) {
                            writer.write_all(&bytes).await?;
                        }
                    }
                    Output::Close(id) => drop(writers.remove(&id)),
                    Output::Selected { .. } => selected = true,
                    Output::Data(bytes) => {
                        let mut bytes = &bytes[..];
                        while !bytes.is_empty() {
                            tls.read_tls(&mut bytes)?;
                            let state = tls.process_new_packets().map_err(io::Error::other)?;
                            let mut plain = vec![0; state.plaintext_bytes_to_read()];
                            tls.reader().read_exact(&mut plain)?;
                            let _ = came.try_send(plain);
                            if state.peer_has_closed() {
                                return Ok(());
                            }
                        }
                    }
                    Output::Failed(why) => return Err(io::Error::other(why)),
                }
            }
            if selected {
                let mut records = Vec::new();
                while tls.wants_write() {
                    tls.write_tls(&mut records)?;
                }
                let mut rest = &records[..];
                // One record a frame.
                while let [_, _, _, high, low, ..] = rest {
                    let len = 5 + usize::from(u16::from_be_bytes([*high, *low]));
                    agent.send(&rest[..len]);
                    rest = &rest[len..];
                    moved = true;
                }
            }
        }
        let wake = agent.poll_timeout().map(|at| start + at);
        tokio::select! {
            event = net.recv() => match event {
                Some(Net::Connected(id, Ok(stream))) => {
                    let local = stream.local_addr()?;
                    let (mut reader, writer) = stream.into_split();
                    writers.insert(id, writer);
                    let net = net_tx.clone();
                    tokio::spawn(async move {
                        let mut piece = vec![0; 32 << 10];
                        while let Ok(n @ 1..) = reader.read(&mut piece).await {
                            if net.send(Net::Bytes(id, piece[..n].to_vec())).await.is_err() {
                                return;
                            }
                        }
                        let _ = net.send(Net::Closed(id)).await;
                    });
                    agent.handle_connected(start.elapsed(), id, local);
                }
                Some(Net::Connected(id, Err(_)) | Net::Closed(id)) => {
                    writers.remove(&id);
                    agent.handle_closed(start.elapsed(), id);
                }
                Some(Net::Bytes(id, bytes)) => agent.handle_bytes(start.elapsed(), id, &bytes),
                None => return Ok(()),
            },
            bytes = send.recv(), if selected && !tls.is_handshaking() => match bytes {
                Some(bytes) => tls.writer().write_all(&bytes)?,
                None => return Ok(()),
            },
            () = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            } => agent.handle_timeout(start.elapsed()),
        }
    }
}
