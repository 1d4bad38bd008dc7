use starling_core::drt::{Drt, DrtConfig, Input, Message, Now, Output, Verdict};
use starling_core::id::{AccountId, ConversationId, DeviceId};
use std::collections::BTreeSet;
use std::time::Duration;

// Messages of three neighbours, each after a byte of waiting; every wish is answered in a way
// that the next byte says.
pub(crate) fn run(data: &[u8]) {
    let mut drt = Drt::new(DrtConfig {
        device: DeviceId([0; 32]),
        account: AccountId([0; 20]),
        conversation: ConversationId([9; 20]),
        seed: [7; 32],
    });
    let now = |clock| Now {
        clock,
        unix: 1_790_000_000 + clock.as_secs(),
    };
    let mut clock = Duration::from_secs(1);
    let accounts: BTreeSet<AccountId> = (0..40).map(|n| AccountId([n; 20])).collect();
    let banned = BTreeSet::new();
    drt.handle(
        now(clock),
        Input::Members {
            accounts: accounts.into(),
            invited: BTreeSet::new(),
            banned,
        },
    );
    for n in 1..4 {
        drt.handle(
            now(clock),
            Input::Connected {
                device: DeviceId([n; 32]),
                account: AccountId([n; 20]),
            },
        );
    }
    let mut rest = data;
    let mut from = 0u8;
    while let [wait, how, tail @ ..] = rest {
        clock += Duration::from_millis(u64::from(*wait) * 200);
        from = (from + 1) % 3;
        let Ok(Some((len, message))) = Message::first(tail) else {
            break;
        };
        rest = tail.split_at(len).1;
        drt.handle(
            now(clock),
            Input::Message {
                from: DeviceId([from + 1; 32]),
                message: Box::new(message),
            },
        );
        for _ in 0..100 {
            let input = match drt.poll_output() {
                None => break,
                Some(Output::Connect(device)) => match how % 3 {
                    0 => Input::Refused { device },
                    1 => Input::Failed {
                        device,
                        not_before: clock + Duration::from_secs(5),
                    },
                    _ => Input::Connected {
                        device,
                        account: AccountId([how % 40; 20]),
                    },
                },
                Some(Output::CheckLease { lease, .. }) => Input::LeaseChecked {
                    device: lease.device,
                    verdict: match how % 5 {
                        0 => Verdict::Bad,
                        1 => Verdict::NoCertificate,
                        _ => Verdict::Good,
                    },
                },
                Some(_) => continue,
            };
            drt.handle(now(clock), input);
        }
        assert!(drt.poll_timeout().is_none_or(|at| at > clock));
        let _ = drt.to_wake();
    }
}
