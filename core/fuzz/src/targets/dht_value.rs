use starling_core::dht::value::Clear;
use starling_core::dht::{Value, envelope};

pub(crate) fn run(data: &[u8]) {
    if let Ok(value) = Value::unpack_bytes(data) {
        let packed = value.pack();
        assert_eq!(Value::unpack_bytes(&packed), Ok(value.clone()));
        let _ = envelope::certificate_key(&value);
    }
    // What an encrypted value holds.
    if let Ok(clear) = Clear::unpack(data) {
        assert_eq!(Clear::unpack(&clear.to_encrypt()), Ok(clear));
    }
    let _ = envelope::spki_of_certificate(data);
    let _ = envelope::rsa_len(data);
}
