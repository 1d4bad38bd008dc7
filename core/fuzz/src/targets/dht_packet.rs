use starling_core::dht::Packet;
use starling_core::dht::fragments::Assembler;

pub(crate) fn run(data: &[u8]) {
    let Ok(packet) = Packet::decode(data) else {
        return;
    };
    let _ = packet.encode();
    let from = ([127, 0, 0, 1], 4222).into();
    let now = std::time::Duration::ZERO;
    let mut assembler = Assembler::new();
    match packet {
        Packet::Part(p) => {
            let _ = assembler.part(now, from, p);
        }
        other => {
            let _ = assembler.header(now, from, other);
        }
    }
}
