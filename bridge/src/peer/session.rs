//! TLS and multiplexer of one connection, as one machine between frames and channels.

use super::tls::TlsIdentity;
use rustls::Connection;
use starling_core::identity::CertificateChain;
use starling_core::peer::ice::Role;
use starling_core::peer::mux::{Mux, MuxError, TlsRole, Transmit};
use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};

/// Longest TLS record on the wire, with its header: 16384 bytes and what encryption may add.
const MAX_RECORD: usize = 5 + 16_384 + 2048;

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    #[error("{0}")]
    Mux(#[from] MuxError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// One side of the session.
pub(super) struct Session {
    tls: Connection,
    /// There when the handshake is done.
    pub(super) mux: Option<Mux>,
    role: Role,
    records: VecDeque<Vec<u8>>,
    /// The peer said goodbye.
    pub(super) ended: bool,
}

impl Session {
    /// The controlling side of ICE is the client of TLS.
    pub(super) fn new(
        role: Role,
        identity: &TlsIdentity,
        expected: CertificateChain,
    ) -> Result<Self, SessionError> {
        let mut tls: Connection = match role {
            Role::Controlling => identity.client(expected)?.into(),
            Role::Controlled => identity.server(expected)?.into(),
        };
        // What is written is taken out at once; the limit would only cut packets.
        tls.set_buffer_limit(None);
        let mut session = Self {
            tls,
            mux: None,
            role,
            records: VecDeque::new(),
            ended: false,
        };
        session.flush()?;
        Ok(session)
    }

    /// Bytes of the stream came. The multiplexer has events afterwards.
    pub(super) fn receive(&mut self, mut bytes: &[u8]) -> Result<(), SessionError> {
        while !bytes.is_empty() && !self.ended {
            if self.tls.read_tls(&mut bytes)? == 0 {
                break;
            }
            let state = self.tls.process_new_packets();
            // An alert that says what was wrong has to go out as well.
            self.flush()?;
            let state = state?;
            if !self.tls.is_handshaking() && self.mux.is_none() {
                self.mux = Some(Mux::new(match self.role {
                    Role::Controlling => TlsRole::Client,
                    Role::Controlled => TlsRole::Server,
                }));
            }
            let mut plain = vec![0; state.plaintext_bytes_to_read()];
            if !plain.is_empty() {
                self.tls.reader().read_exact(&mut plain)?;
                if let Some(mux) = &mut self.mux {
                    mux.handle_bytes(&plain)?;
                }
            }
            self.ended = state.peer_has_closed();
        }
        Ok(())
    }

    /// The next TLS record to send, and whose data went into it, if it is the last of a packet.
    pub(super) fn next_record(
        &mut self,
        sent: &mut impl FnMut(starling_core::peer::mux::ChannelId, usize),
    ) -> Result<Option<Vec<u8>>, SessionError> {
        if self.records.is_empty()
            && let Some(mux) = &mut self.mux
            && let Some(Transmit { packet, data }) = mux.poll_transmit()
        {
            self.tls.writer().write_all(&packet)?;
            self.flush()?;
            if let Some((channel, len)) = data {
                sent(channel, len);
            }
        }
        Ok(self.records.pop_front())
    }

    /// Whether [`Self::next_record`] has something.
    pub(super) fn wants_send(&self) -> bool {
        !self.records.is_empty() || self.mux.as_ref().is_some_and(Mux::wants_transmit)
    }

    /// Says goodbye.
    pub(super) fn close(&mut self) {
        self.tls.send_close_notify();
        // Into a Vec.
        let _ = self.flush();
    }

    /// "TLSv1_3" and the like.
    pub(super) fn version(&self) -> String {
        self.tls
            .protocol_version()
            .and_then(|v| v.as_str().map(str::to_owned))
            .unwrap_or_default()
    }

    /// Takes the records that TLS wants to send, one by one: daemons write one a frame, too.
    fn flush(&mut self) -> io::Result<()> {
        let mut out = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut out)?;
        }
        let mut rest = out.as_slice();
        while let [_, _, _, l0, l1, ..] = rest {
            let len = (5 + usize::from(u16::from_be_bytes([*l0, *l1]))).min(rest.len());
            debug_assert!(len <= MAX_RECORD);
            let (record, after) = rest.split_at(len);
            self.records.push_back(record.to_vec());
            rest = after;
        }
        Ok(())
    }
}
