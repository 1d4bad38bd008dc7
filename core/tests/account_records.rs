//! Records of accounts: files and messages of both generations are read, the newest ones
//! written byte for byte, and two devices end up with the same.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use starling_core::account::*;
use starling_core::id::{AccountId, ConversationId, DeviceId, ObjectId};
use starling_core::identity::CertificateChain;
use starling_core::msgpack::{self, MsgpackError, Value};

const T0: u64 = 1_767_225_600;

macro_rules! data {
    ($name:literal) => {
        include_bytes!(concat!("data/account/", $name))
    };
}

const ME: AccountId = AccountId([1; 20]);
const BOB: AccountId = AccountId([2; 20]);

fn conversation(n: u8) -> ConversationId {
    ConversationId([n; 20])
}

#[test]
fn contacts_of_both_generations() {
    let newest = data!("files/contacts-newest");
    let contacts = decode_contacts(newest).unwrap();
    assert_eq!(encode_contacts(&contacts), newest);
    let old = decode_contacts(data!("files/contacts-2023")).unwrap();
    assert_eq!(old.len(), 2);
    for (id, contact) in &contacts {
        assert_eq!(old[id].added_ms, contact.added_ms / 1000 * 1000);
        assert_eq!(old[id].is_active(), contact.is_active());
    }
    let blocked = contacts.values().filter(|c| c.is_blocked()).count();
    let active = contacts.values().filter(|c| c.is_active()).count();
    assert_eq!((blocked, active), (1, 1));
    for file in [
        &data!("daemon/ann-contacts.msgpack")[..],
        data!("daemon/ben-contacts.msgpack"),
    ] {
        let contacts = decode_contacts(file).unwrap();
        assert!(contacts.values().all(|c| c.is_active() && c.confirmed));
        assert_eq!(encode_contacts(&contacts), file);
    }
}

#[test]
fn conversation_records_of_both_generations() {
    let newest = data!("files/convInfo-newest");
    let infos = decode_conversations(newest).unwrap();
    assert_eq!(encode_conversations(&infos), newest);
    let old = decode_conversations(data!("files/convInfo-2023")).unwrap();
    let (id, info) = infos.iter().next().unwrap();
    assert_eq!(old[id].members, info.members);
    assert_eq!(old[id].last_displayed, info.last_displayed);
    assert_eq!(old[id].created_ms, T0 * 1000);
    for file in [
        &data!("daemon/ann-convInfo.msgpack")[..],
        data!("daemon/ben-convInfo.msgpack"),
    ] {
        let infos = decode_conversations(file).unwrap();
        assert_eq!(encode_conversations(&infos), file);
    }
    let ben = decode_conversations(data!("daemon/ben-convInfo.msgpack")).unwrap();
    assert_eq!(ben.values().filter(|i| i.is_removed()).count(), 1);
}

#[test]
fn requests_of_both_generations() {
    let newest = data!("files/convRequests-newest");
    let requests = decode_requests(newest).unwrap();
    assert_eq!(encode_requests(&requests), newest);
    assert_eq!(
        decode_requests(data!("files/convRequests-2023")).unwrap(),
        requests
    );
    let request = requests.values().next().unwrap();
    assert_eq!((request.mode(), request.is_open()), (2, true));

    let newest = data!("files/incomingTrustRequests-newest");
    let pending = decode_pending(newest).unwrap();
    assert_eq!(encode_pending(&pending), newest);
    let old = decode_pending(data!("files/incomingTrustRequests-2023")).unwrap();
    let (id, request) = pending.iter().next().unwrap();
    assert_eq!(old[id].payload, request.payload);
    assert_eq!(
        (old[id].invited_ms, request.invited_ms),
        (0, (T0 + 30) * 1000)
    );
    let profile = VCard::parse(&request.payload).unwrap();
    assert_eq!(profile.display_name(), "Peer");
    for empty in [
        &data!("daemon/ann-convRequests.msgpack")[..],
        data!("daemon/ben-convRequests.msgpack"),
    ] {
        assert_eq!(encode_requests(&decode_requests(empty).unwrap()), empty);
    }
}

#[test]
fn known_devices_of_both_generations_and_never_is_zero() {
    let newest = data!("files/knownDevices-newest");
    let devices = decode_known_devices(newest).unwrap();
    assert_eq!(encode_known_devices(&devices), newest);
    assert_eq!(
        decode_known_devices(data!("files/knownDevices-2023")).unwrap(),
        devices
    );
    let ann = decode_known_devices(data!("daemon/ann-knownDevices.msgpack")).unwrap();
    let times: Vec<u64> = ann.values().map(|d| d.sync_ms).collect();
    assert_eq!(times, [0, 1_795_247_594_959]);
}

#[test]
fn sync_messages_of_both_generations() {
    for newest in [
        &data!("sync/newest-ds.bin")[..],
        data!("sync/newest-c.bin"),
        data!("sync/newest-cr.bin"),
        data!("sync/newest-p.bin"),
        data!("sync/newest-ms.bin"),
    ] {
        let message = SyncMessage::decode(newest).unwrap();
        assert_eq!(message.encode(), newest);
        // A stream, cut anywhere.
        let mut stream = newest.to_vec();
        stream.extend_from_slice(newest);
        assert_eq!(
            SyncMessage::first(&stream).unwrap(),
            (message, newest.len())
        );
        for len in 0..newest.len() {
            assert_eq!(
                SyncMessage::first(&stream[..len]),
                Err(RecordError::Msgpack(MsgpackError::Incomplete))
            );
        }
    }
    let old = SyncMessage::decode(data!("sync/2023-ds.bin")).unwrap();
    let new = SyncMessage::decode(data!("sync/newest-ds.bin")).unwrap();
    assert_eq!(old.devices.date_ns, T0 * 1_000_000_000);
    assert_eq!(
        old.devices.devices.keys().collect::<Vec<_>>(),
        new.devices.devices.keys().collect::<Vec<_>>()
    );
    assert!(
        old.devices
            .devices
            .values()
            .all(|(_, short)| short.is_some())
    );
    assert_eq!(
        SyncMessage::decode(data!("sync/2023-cr.bin"))
            .unwrap()
            .requests,
        SyncMessage::decode(data!("sync/newest-cr.bin"))
            .unwrap()
            .requests
    );
    assert_eq!(
        SyncMessage::decode(data!("sync/2023-p.bin"))
            .unwrap()
            .preferences,
        SyncMessage::decode(data!("sync/newest-p.bin"))
            .unwrap()
            .preferences
    );
    let c = SyncMessage::decode(data!("sync/2023-c.bin")).unwrap();
    assert_eq!(c.conversations.len(), 1);
}

#[test]
fn bad_records_are_refused_by_name() {
    let error = |bytes: &[u8]| SyncMessage::decode(bytes).unwrap_err();
    assert_eq!(error(&[0x90]), RecordError::Expected("an array of maps"));
    assert_eq!(error(&[0x80]), RecordError::Expected("an array of maps"));
    assert_eq!(error(&[0x91, 0xc0]), RecordError::Expected("a map"));
    assert_eq!(
        error(&[0x91, 0x80, 0x80]),
        RecordError::Msgpack(MsgpackError::TrailingBytes(1))
    );
    assert_eq!(
        error(&[&[0x91; 40][..], &[0x80]].concat()),
        RecordError::Msgpack(MsgpackError::TooDeep(16))
    );
    // An array that claims four milliards of records costs nothing.
    assert_eq!(
        SyncMessage::first(&[0xdd, 255, 255, 255, 255]),
        Err(RecordError::Msgpack(MsgpackError::Incomplete))
    );
    let mut large = vec![0xc6, 0, 0x90, 0, 0];
    large.resize(9 * 1024 * 1024, 0);
    assert_eq!(
        SyncMessage::first(&large),
        Err(RecordError::Msgpack(MsgpackError::TooLong(MAX_SYNC_LEN)))
    );
    assert_eq!(
        decode_contacts(&[0x01]),
        Err(RecordError::Expected("a map"))
    );
    // Records and keys of unknown shape are left out, the rest stays.
    let mut contacts = match msgpack::decode(data!("files/contacts-newest"), 1 << 20).unwrap() {
        Value::Map(m) => m,
        _ => unreachable!(),
    };
    contacts.push((Value::from("key"), Value::Map(vec![])));
    contacts.push((Value::Binary(vec![1; 20]), Value::Nil));
    let file = msgpack::encode(&Value::Map(contacts));
    assert_eq!(decode_contacts(&file).unwrap().len(), 2);
}

#[test]
fn trust_requests_of_both_generations() {
    let index: serde_json::Value = serde_json::from_slice(data!("values-index.json")).unwrap();
    let request = |name: &str| {
        let data = hex::decode(index[name]["data_hex"].as_str().unwrap()).unwrap();
        (TrustRequest::decode(&data).unwrap(), data)
    };
    let (newest, data) = request("trust-request-newest");
    assert_eq!(newest.encode(), data);
    assert_eq!(newest.invited_ms, T0 * 1000 + 123);
    assert!(!newest.confirm);
    assert!(newest.payload.starts_with(b"BEGIN:VCARD"));
    let (old, _) = request("trust-request-2023");
    assert_eq!(
        old,
        TrustRequest {
            invited_ms: 0,
            ..newest
        }
    );
    let (confirm, _) = request("trust-confirm-2023");
    assert_eq!(confirm, TrustRequest::confirmation(old.conversation));
}

#[test]
fn bad_trust_requests_are_refused_by_name() {
    let of = |service: &str, conversation: &str| {
        TrustRequest::decode(&msgpack::encode(&msgpack::map([
            ("service", Value::from(service)),
            ("conversationId", Value::from(conversation)),
        ])))
    };
    assert_eq!(of("cx.ring", "").unwrap().conversation, None);
    assert_eq!(of("other", ""), Err(TrustRequestError::OtherService));
    assert_eq!(
        of("cx.ring", "../../x"),
        Err(TrustRequestError::BadConversation)
    );
    assert_eq!(
        TrustRequest::decode(&[0x80]),
        Err(TrustRequestError::OtherService)
    );
    assert_eq!(
        TrustRequest::decode(&[]),
        Err(TrustRequestError::Msgpack(MsgpackError::Incomplete))
    );
    assert_eq!(
        TrustRequest::decode(&vec![0; 70_000]),
        Err(TrustRequestError::Msgpack(MsgpackError::TooLong(65536)))
    );
    // What Starling adds comes through, and nothing is added where it does not hold.
    let ours = TrustRequest::invitation(conversation(1), b"", 5);
    assert!(ours.newest_counts);
    assert_eq!(TrustRequest::decode(&ours.encode()).unwrap(), ours);
    // A profile that would not fit into a value stays at home.
    let large = TrustRequest::invitation(conversation(1), &vec![b'x'; 64_000], 5);
    assert!(large.payload.is_empty());
}

#[test]
fn of_two_conversations_offered_at_once_both_sides_use_the_same() {
    let offer = |n: u8, offered_ms: u64| Offer {
        conversation: conversation(n),
        offered_ms,
    };
    for (a, b) in [
        (offer(1, 10), offer(2, 11)),
        (offer(1, 11), offer(2, 10)),
        (offer(1, 10), offer(2, 10)),
        (offer(1, 0), offer(2, 10)),
    ] {
        // Each side has its own and hears of the other's.
        assert_ne!(
            b.replaces(&a, true, None),
            a.replaces(&b, true, None),
            "{a:?} {b:?}"
        );
        assert!(!a.replaces(&a, true, None));
    }
    // A daemon comes over to ours, unless it was in it and asks again.
    assert!(!offer(2, 20).replaces(&offer(1, 10), false, None));
    assert!(!offer(2, 20).replaces(&offer(1, 10), false, Some(20)));
    assert!(offer(2, 21).replaces(&offer(1, 10), false, Some(20)));
    assert!(offer(2, 0).replaces(&offer(1, 10), false, None));
}

#[test]
fn what_a_trust_request_amounts_to() {
    let c = conversation(7);
    let ask = TrustRequest::invitation(c, b"", 1000);
    let accept = TrustRequest::confirmation(Some(c));
    let on = |request: &TrustRequest,
              contact: Option<&Contact>,
              waiting: Option<&PendingTrustRequest>| {
        receive_trust_request(&ME, &BOB, request, contact, waiting, 5000)
    };
    assert_eq!(on(&ask, None, None), Received::Pending);
    assert_eq!(on(&accept, None, None), Received::Unasked);
    assert_eq!(
        receive_trust_request(&ME, &ME, &ask, None, None, 0),
        Received::Dropped
    );
    let waiting = PendingTrustRequest {
        invited_ms: 1000,
        ..PendingTrustRequest::default()
    };
    // The same invitation, sent again whenever we appear.
    assert_eq!(on(&ask, None, Some(&waiting)), Received::Repeated);
    let newer = TrustRequest::invitation(c, b"", 1001);
    assert_eq!(on(&newer, None, Some(&waiting)), Received::Pending);

    let mut bob = Contact::default();
    bob.add(1000, Some(c), false);
    assert_eq!(
        on(&accept, Some(&bob), None),
        Received::FromContact {
            newly_confirmed: true,
            answer: false,
            accepted: true,
            other_conversation: None
        }
    );
    bob.confirm();
    // We asked each other at the same time: their conversation is another one.
    let theirs = TrustRequest::invitation(conversation(8), b"", 1000);
    assert_eq!(
        on(&theirs, Some(&bob), None),
        Received::FromContact {
            newly_confirmed: false,
            answer: true,
            accepted: false,
            other_conversation: Some(conversation(8))
        }
    );
    bob.remove(2000, true);
    assert_eq!(on(&ask, Some(&bob), None), Received::Dropped);
    bob.remove(3000, false);
    assert_eq!(on(&ask, Some(&bob), None), Received::Pending);
}

#[test]
fn a_contact_is_added_removed_blocked_and_added_again() {
    let mut bob = Contact::default();
    assert!(!bob.is_active() && !bob.is_blocked());
    assert!(bob.add(1000, Some(conversation(1)), false));
    assert!(!bob.add(2000, Some(conversation(1)), false));
    assert!(!bob.add(2000, None, false));
    assert!(bob.confirm());
    assert!(!bob.add(2000, None, true));
    assert!(bob.remove(2000, true));
    assert!(bob.is_blocked() && !bob.confirmed && bob.conversation.is_some());
    assert!(!bob.remove(2500, true));
    // In the same millisecond, even under a clock set back.
    assert!(bob.add(1500, None, false));
    assert!(bob.is_active() && !bob.is_blocked() && !bob.confirmed);
    assert_eq!((bob.added_ms, bob.removed_ms), (2001, 0));
    assert!(bob.remove(1000, false));
    assert!(!bob.is_active() && bob.conversation.is_none());
}

#[test]
fn conversation_records_merge_as_the_newest_wins() {
    let id = conversation(3);
    let joined = ConvInfo::new(id, 0, 1000);
    let mut ours = None;
    assert_eq!(ConvInfo::merge(&mut ours, &joined, 5000), InfoMerge::Joined);
    assert_eq!(
        ConvInfo::merge(&mut ours, &joined, 5000),
        InfoMerge::Unchanged
    );
    let left = ConvInfo {
        removed_ms: 2000,
        ..joined.clone()
    };
    assert_eq!(
        ConvInfo::merge(&mut ours, &left, 5000),
        InfoMerge::Left { erase: false }
    );
    assert!(ours.as_ref().unwrap().is_removed());
    // What is older than that does not bring it back.
    assert_eq!(
        ConvInfo::merge(&mut ours, &joined, 5000),
        InfoMerge::Unchanged
    );
    let erased = ConvInfo {
        removed_ms: 5000,
        erased_ms: 6000,
        ..joined.clone()
    };
    assert_eq!(
        ConvInfo::merge(&mut ours, &erased, 7000),
        InfoMerge::Left { erase: true }
    );
    assert_eq!(
        ConvInfo::merge(&mut ours, &erased, 7000),
        InfoMerge::Unchanged
    );
    let again = ConvInfo::new(id, 0, 8000);
    assert_eq!(ConvInfo::merge(&mut ours, &again, 9000), InfoMerge::Joined);
    assert!(!ours.unwrap().is_removed());
}

#[test]
fn requests_merge_as_the_later_word_wins() {
    let open = ConversationRequest {
        from: BOB,
        conversation: conversation(4),
        metadata: BTreeMap::new(),
        received_ms: 1000,
        declined_ms: 0,
    };
    let declined = ConversationRequest {
        declined_ms: 2000,
        ..open.clone()
    };
    let merge = |ours: &mut Option<ConversationRequest>, theirs: &ConversationRequest, known| {
        ConversationRequest::merge(ours, theirs, &ME, known, 10_000)
    };
    let mut ours = None;
    assert_eq!(merge(&mut ours, &open, false), RequestMerge::Added);
    assert_eq!(merge(&mut ours, &open, false), RequestMerge::Unchanged);
    assert_eq!(merge(&mut ours, &declined, false), RequestMerge::Declined);
    assert_eq!(merge(&mut ours, &open, false), RequestMerge::Unchanged);
    let anew = ConversationRequest {
        received_ms: 3000,
        ..open.clone()
    };
    assert_eq!(merge(&mut ours, &anew, false), RequestMerge::Added);
    // An old refusal is no answer to a new invitation.
    assert_eq!(merge(&mut ours, &declined, false), RequestMerge::Unchanged);
    assert_eq!(merge(&mut ours, &open, true), RequestMerge::Obsolete);
    assert_eq!(ours, None);
    let own = ConversationRequest {
        from: ME,
        ..open.clone()
    };
    assert_eq!(merge(&mut ours, &own, false), RequestMerge::Unchanged);
    // A clock far ahead is not believed.
    let future = ConversationRequest {
        received_ms: 10_000_000,
        ..open
    };
    assert_eq!(merge(&mut ours, &future, false), RequestMerge::Added);
    assert_eq!(ours.unwrap().received_ms, 10_000);
}

#[test]
fn a_read_mark_moves_only_forward() {
    let at = |read: u8, read_at| MemberStatus {
        read: Some(ObjectId([read; 20])),
        read_at,
        ..MemberStatus::default()
    };
    let mut ours = at(1, 100);
    assert!(!ours.merge(&at(1, 200)));
    assert!(!ours.merge(&at(2, 99)));
    assert!(ours.merge(&at(2, 100)));
    assert_eq!(ours, at(2, 100));
}

#[test]
fn who_may_connect() {
    let chain =
        CertificateChain::from_pem(include_bytes!("data/identity/certs/peer-device-chain.crt"))
            .unwrap();
    let account = chain.account_id();
    let mut trust = TrustStore::default();
    assert_eq!(trust.permission(&chain, false), Permission::Stranger);
    assert_eq!(trust.permission(&chain, true), Permission::Allowed);
    let mut contact = Contact::default();
    contact.add(1000, None, false);
    trust.set_contact(&account, &contact);
    assert_eq!(trust.permission(&chain, false), Permission::Allowed);
    // A ban anywhere in the chain outweighs everything.
    trust.set(chain.short_id().0, TrustStatus::Banned);
    assert_eq!(trust.permission(&chain, true), Permission::Banned);
    trust.set(chain.short_id().0, TrustStatus::Undefined);
    contact.remove(2000, true);
    trust.set_contact(&account, &contact);
    assert_eq!(trust.permission(&chain, true), Permission::Banned);
    contact.remove(3000, false);
    trust.set_contact(&account, &contact);
    assert_eq!(trust.permission(&chain, false), Permission::Stranger);
    // The own CA admits own devices.
    trust.set(chain.ca[0].account_id().0, TrustStatus::Allowed);
    assert_eq!(trust.permission(&chain, false), Permission::Allowed);
}

#[test]
fn profiles_are_read_with_tolerance_and_written_as_the_client_does() {
    let text = "BEGIN:VCARD\nVERSION:2.1\nFN:Zoë\nTEL;other:ring:05e9\nPHOTO;ENCODING=BASE64;TYPE=JPEG:/9j/4AAQ\nEND:VCARD";
    let profile = VCard::parse(text.as_bytes()).unwrap();
    assert_eq!(profile.display_name(), "Zoë");
    assert_eq!(profile.get("TEL;other"), Some("ring:05e9"));
    let photo = profile.photo().unwrap();
    assert_eq!((photo.kind.as_str(), photo.data.len()), ("JPEG", 6));
    assert_eq!(profile.to_string(), text);
    // Other line ends, a folded line, something around it.
    let folded = text
        .replace("/9j/4AAQ", "/9j/\n 4AAQ")
        .replace('\n', "\r\n");
    assert_eq!(
        VCard::parse(format!("x\r\n{folded}\r\ny").as_bytes()).unwrap(),
        profile
    );
    let mut mine = VCard::new("Ann\nEND:VCARD");
    mine.set_photo(Some(&photo));
    mine.set_photo(Some(&Photo {
        kind: "PNG".into(),
        data: vec![1],
    }));
    let again = VCard::parse(mine.to_string().as_bytes()).unwrap();
    assert_eq!(again.display_name(), "Ann END:VCARD");
    assert_eq!(again.photo().unwrap().data, [1]);
    mine.set_photo(None);
    assert_eq!(mine.photo(), None);

    assert_eq!(VCard::parse(b""), Err(VCardError::NotVCard));
    assert_eq!(VCard::parse(&[0xff]), Err(VCardError::NotText));
    assert_eq!(
        VCard::parse(&vec![b'x'; 9 * 1024 * 1024]),
        Err(VCardError::TooLarge)
    );
    let many = format!("BEGIN:VCARD\n{}", "A:b\n".repeat(1001));
    assert_eq!(VCard::parse(many.as_bytes()), Err(VCardError::TooLarge));
}

prop_compose! {
    fn contact()(
        added_ms in 0u64..20, removed_ms in 0u64..20, confirmed: bool, banned: bool,
        conversation in proptest::option::of(any::<[u8; 20]>()),
    ) -> Contact {
        Contact { added_ms, removed_ms, confirmed, banned, conversation: conversation.map(ConversationId) }
    }
}

prop_compose! {
    fn info()(
        id in any::<[u8; 20]>(), times in any::<[u32; 3]>(), mode in 0u8..4,
        members in proptest::collection::btree_set(any::<[u8; 20]>(), 0..4),
        last in proptest::option::of(any::<[u8; 20]>()),
        invited in proptest::collection::btree_map(any::<[u8; 20]>(), any::<u64>(), 0..3),
    ) -> ConvInfo {
        ConvInfo {
            created_ms: times[0].into(),
            removed_ms: times[1].into(),
            erased_ms: times[2].into(),
            members: members.into_iter().map(AccountId).collect(),
            last_displayed: last.map(ObjectId),
            invited: invited.into_iter().map(|(k, v)| (AccountId(k), v)).collect(),
            ..ConvInfo::new(ConversationId(id), mode, 0)
        }
    }
}

prop_compose! {
    fn request()(
        from in any::<[u8; 20]>(), id in any::<[u8; 20]>(), times in any::<[u32; 2]>(),
        metadata in proptest::collection::btree_map("[a-z]{1,8}", ".{0,20}", 0..3),
    ) -> ConversationRequest {
        ConversationRequest {
            from: AccountId(from),
            conversation: ConversationId(id),
            metadata,
            received_ms: times[0].into(),
            declined_ms: times[1].into(),
        }
    }
}

proptest! {
    #[test]
    fn records_survive_every_form(contact in contact(), info in info(), request in request()) {
        prop_assert_eq!(Contact::from_msgpack(&contact.to_msgpack()), Some(contact.clone()));
        prop_assert_eq!(ConvInfo::from_msgpack(&info.to_msgpack()), Some(info.clone()));
        prop_assert_eq!(ConversationRequest::from_msgpack(&request.to_msgpack()), Some(request.clone()));
        prop_assert_eq!(&serde_json::from_str::<Contact>(&serde_json::to_string(&contact).unwrap()).unwrap(), &contact);
        prop_assert_eq!(&serde_json::from_str::<ConvInfo>(&serde_json::to_string(&info).unwrap()).unwrap(), &info);
        prop_assert_eq!(&serde_json::from_str::<ConversationRequest>(&serde_json::to_string(&request).unwrap()).unwrap(), &request);
        let message = SyncMessage {
            conversations: [(info.id, info)].into(),
            requests: [(request.conversation, request)].into(),
            devices: DeviceSync {
                contacts: [(BOB, contact)].into(),
                devices: [(DeviceId([9; 32]), ("x".to_owned(), None))].into(),
                ..DeviceSync::default()
            },
            ..SyncMessage::default()
        };
        prop_assert_eq!(SyncMessage::decode(&message.encode()).unwrap(), message);
    }

    /// Two devices that did different things agree after telling each other, in any order,
    /// whenever their clocks tell the changes apart.
    #[test]
    fn contacts_converge(mut a in contact(), mut b in contact()) {
        let last = |c: &Contact| c.added_ms.max(c.removed_ms);
        prop_assume!(last(&a) != last(&b));
        let (old_a, old_b) = (a.clone(), b.clone());
        a.merge(&old_b);
        b.merge(&old_a);
        prop_assert_eq!(&a, &b);
        prop_assert!(!a.merge(&b));
    }

    /// Two devices agree on where they are in a conversation, and fall silent after that.
    #[test]
    fn conversation_records_converge(a in info(), b in info()) {
        let b = ConvInfo { id: a.id, ..b };
        let now = u64::from(u32::MAX) + 1;
        let (mut a, mut b) = (Some(a), Some(b));
        for _ in 0..2 {
            let told = a.clone().unwrap();
            ConvInfo::merge(&mut b, &told, now);
            let told = b.clone().unwrap();
            ConvInfo::merge(&mut a, &told, now);
        }
        let (at_a, at_b) = (a.clone().unwrap(), b.clone().unwrap());
        prop_assert_eq!(at_a.is_removed(), at_b.is_removed());
        prop_assert_eq!(ConvInfo::merge(&mut a, &at_b, now), InfoMerge::Unchanged);
        prop_assert_eq!(ConvInfo::merge(&mut b, &at_a, now), InfoMerge::Unchanged);
        prop_assert_eq!(a.unwrap(), at_a);
        prop_assert_eq!(b.unwrap(), at_b);
    }

    #[test]
    fn trust_requests_round_trip(id in proptest::option::of(any::<[u8; 20]>()), payload in proptest::collection::vec(any::<u8>(), 0..100), confirm: bool, invited_ms: u64) {
        let request = TrustRequest { conversation: id.map(ConversationId), payload, confirm, invited_ms, newest_counts: confirm };
        prop_assert_eq!(TrustRequest::decode(&request.encode()).unwrap(), request);
    }

    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in ".{0,200}") {
        let _ = decode_contacts(&bytes);
        let _ = decode_conversations(&bytes);
        let _ = decode_requests(&bytes);
        let _ = decode_pending(&bytes);
        let _ = decode_known_devices(&bytes);
        let _ = SyncMessage::decode(&bytes);
        let _ = TrustRequest::decode(&bytes);
        let _ = VCard::parse(&bytes);
        if let Ok(profile) = VCard::parse(format!("BEGIN:VCARD\n{text}").as_bytes()) {
            prop_assert_eq!(VCard::parse(profile.to_string().as_bytes()).unwrap(), profile);
        }
    }
}
