//! Addresses of public conversations, and knocks at their doors.

use starling_core::swarm::public::{Address, Knock};

pub(crate) fn run(data: &[u8]) {
    if let Some(knock) = Knock::decode(data) {
        assert_eq!(Knock::decode(&knock.encode()), Some(knock));
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(address) = text.parse::<Address>()
    {
        assert_eq!(address.to_string().parse(), Ok(address));
    }
}
