use starling_core::peer::ice::{Agent, Config, Limits, Role};
use starling_core::peer::ice_text::{Credentials, IceText};
use std::time::Duration;

pub(crate) fn run(data: &[u8]) {
    let mut agent = Agent::new(Config {
        role: Role::Controlled,
        credentials: Credentials::from_random([1; 16]),
        entropy: [2; 32],
        ipv4: true,
        ipv6: true,
        loopback: false,
        nomination_delay: Duration::from_millis(400),
        limits: Limits::default(),
    });
    let address = "192.0.2.1:1000".parse().expect("an address");
    let now = Duration::from_secs(1);
    let Ok(id) = agent.handle_accepted(now, address, address) else {
        return;
    };
    if let Ok(text) = IceText::parse("u\np\nH1 1 TCP 1 192.0.2.2 5 typ host tcptype passive\n") {
        agent.set_remote(now, &text);
    }
    agent.handle_bytes(now, id, data);
    while agent.poll_output().is_some() {}
}
