use starling_core::peer::mux::{Event, Mux, TlsRole};

pub(crate) fn run(data: &[u8]) {
    let mut mux = Mux::new(TlsRole::Client);
    let _ = mux.request("sip");
    // The first byte says how the rest is cut.
    let Some((cut, data)) = data.split_first() else {
        return;
    };
    for piece in data.chunks(usize::from(*cut) + 1) {
        if mux.handle_bytes(piece).is_err() {
            return;
        }
        while let Some(event) = mux.poll_event() {
            if let Event::Requested(id, name) = event {
                let _ = mux.accept(id, &name);
            }
        }
        while mux.poll_transmit().is_some() {}
    }
}
