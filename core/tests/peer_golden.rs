//! What real daemons sent each other: a request and its answer, every STUN message of the
//! connection that followed, and the control messages on it (daemons of 2026 and 2023).
#![allow(clippy::unwrap_used)]

use starling_core::msgpack::{self, Value};
use starling_core::peer::channel_name::ChannelName;
use starling_core::peer::ice_text::{Candidate, CandidateType, IceText, TcpType};
use starling_core::peer::mux::{self, Event, Mux, TlsRole};
use starling_core::peer::request::PeerRequest;
use starling_core::peer::stun::{Class, Message, RoleClaim};

fn request(text: &str) -> PeerRequest {
    let bytes = hex::decode(text.trim()).unwrap();
    let request = PeerRequest::decode(&bytes).unwrap();
    assert_eq!(request.encode(), bytes);
    request
}

fn ben_asks() -> PeerRequest {
    request(include_str!("data/peer/request.hex"))
}

fn ann_answers() -> PeerRequest {
    request(include_str!("data/peer/answer.hex"))
}

#[test]
fn request_and_answer_are_written_as_daemons_write_them() {
    let (asked, answered) = (ben_asks(), ann_answers());
    assert_eq!(asked.id, answered.id);
    assert!(!asked.is_answer && answered.is_answer);
    assert_eq!(asked.conn_type, "application/im-gitmessage-id");
    assert_eq!(answered.conn_type, "");
    for message in [asked, answered] {
        let text = IceText::parse(&message.ice_msg).unwrap();
        assert_eq!(text.to_string(), message.ice_msg);
        // IPv4 candidates of ours have the same foundations and priorities.
        for (c, local) in text.candidates.iter().zip([65_535, 65_534]) {
            assert_eq!(
                *c,
                Candidate::new(c.kind, c.tcp_type, c.address, local),
                "{c}"
            );
        }
        assert!(
            text.candidates
                .iter()
                .any(|c| c.kind == CandidateType::ServerReflexive && c.tcp_type == TcpType::Active)
        );
    }
}

#[test]
fn the_checks_of_daemons_are_read_and_written() {
    let password = IceText::parse(&ben_asks().ice_msg).unwrap().credentials.pwd;
    // The two daemons happened to draw the same credentials.
    assert_eq!(
        password,
        IceText::parse(&ann_answers().ice_msg)
            .unwrap()
            .credentials
            .pwd
    );
    let (mut requests, mut nominations, mut answers, mut indications) = (0, 0, 0, 0);
    for line in include_str!("data/peer/stun.txt").lines() {
        let [from, to, text] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let bytes = hex::decode(text).unwrap();
        let message = Message::decode(&bytes).unwrap();
        assert!(message.fingerprint && message.unknown.is_empty());
        let key = match message.class {
            Class::Indication => {
                indications += 1;
                assert!(!message.has_integrity());
                None
            }
            _ => {
                assert!(message.check_integrity(&bytes, password.as_bytes()));
                assert!(!message.check_integrity(&bytes, b"no"));
                Some(password.as_bytes())
            }
        };
        match message.class {
            Class::Request => {
                requests += 1;
                assert_eq!(message.priority.map(|p| p >> 24), Some(110));
                // Ben, who asked, is controlled; Ann nominates.
                assert_eq!(
                    matches!(message.role, Some(RoleClaim::Controlled(_))),
                    from.starts_with("10.77.0.13")
                );
                nominations += u32::from(message.use_candidate);
            }
            Class::Success => {
                answers += 1;
                assert_eq!(message.xor_mapped.unwrap().to_string(), to);
            }
            _ => {}
        }
        assert_eq!(hex::encode(message.encode(key)), text, "{message:?}");
    }
    assert_eq!((requests, nominations, answers, indications), (6, 1, 6, 2));
}

#[test]
fn the_control_messages_of_daemons_are_read_and_written() {
    let (mut requests, mut accepted, mut declined) = (0, 0, 0);
    for line in include_str!("data/peer/control.txt").lines() {
        let [year, _, _, channel, text] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let bytes = hex::decode(text).unwrap();
        let value = msgpack::decode(&bytes, mux::MAX_DATA).unwrap();
        assert_eq!(msgpack::encode(&value), bytes);
        let number: u16 = channel.parse().unwrap();
        let mut bob = Mux::new(TlsRole::Server);
        bob.handle_bytes(&mux::packet(number, &bytes)).unwrap();
        if number == mux::PROTOCOL {
            let known = matches!(bob.poll_event(), Some(Event::Version(1)))
                || msgpack::get(&value, "p").is_some();
            assert!(known, "{line}");
            continue;
        }
        let fields = value.as_array().unwrap();
        let name = fields[0].as_str().unwrap();
        let parsed = ChannelName::from(name);
        assert!(!matches!(parsed, ChannelName::Unknown(_)), "{name}");
        assert_eq!(parsed.to_string(), name);
        match fields[2].as_u64().unwrap() {
            0 => {
                requests += 1;
                let Some(Event::Requested(id, asked)) = bob.poll_event() else {
                    panic!("{line}")
                };
                assert_eq!(asked, name);
                assert_eq!(Some(u64::from(id.number())), fields[1].as_u64());
                bob.accept(id, name).unwrap();
                let reply = Value::Array(vec![name.into(), id.number().into(), 1.into()]);
                let reply = mux::packet(mux::CONTROL, &msgpack::encode(&reply));
                let sent: Vec<_> = std::iter::from_fn(|| bob.poll_transmit())
                    .map(|t| t.packet)
                    .collect();
                assert!(sent.contains(&reply));
            }
            1 => accepted += 1,
            _ => declined += 1,
        }
        assert!(year == "2026" || year == "2023");
    }
    assert!(
        requests > 15 && accepted > 10,
        "{requests} {accepted} {declined}"
    );
}
