use starling_core::crypto::{Crypto, CryptoError, PrivateKey, SignatureCheck};
use starling_core::dht::node::{Node, NodeConfig};
use starling_core::dht::query::Query;
use starling_core::dht::value::Value;
use starling_core::id::InfoHash;
use std::sync::Arc;
use std::time::Duration;

/// Every signature whose length is even verifies.
pub(crate) struct Lenient;

impl Crypto for Lenient {
    fn verify(&self, check: &SignatureCheck) -> bool {
        check.signature.len() % 2 == 0
    }
    fn rsa_encrypt(&self, _: &[u8], _: &[u8]) -> Result<Vec<u8>, CryptoError> {
        Err(CryptoError::Failed)
    }
    fn generate_rsa(&self, _: u32) -> Result<Box<dyn PrivateKey>, CryptoError> {
        Err(CryptoError::Failed)
    }
    fn read_private_key(&self, _: &[u8]) -> Result<Box<dyn PrivateKey>, CryptoError> {
        Err(CryptoError::Failed)
    }
    fn aes_gcm_seal(&self, _: &[u8], _: &[u8; 12], _: &[u8]) -> Result<Vec<u8>, CryptoError> {
        Err(CryptoError::Failed)
    }
    fn aes_gcm_open(&self, _: &[u8], _: &[u8; 12], _: &[u8]) -> Result<Vec<u8>, CryptoError> {
        Err(CryptoError::Failed)
    }
    fn random(&self, _: &mut [u8]) {}
}

// Datagrams, each after a byte of waiting and two of length, come from three addresses in turn.
pub(crate) fn run(data: &[u8]) {
    let mut now = Duration::from_secs(1);
    let mut node = Node::new(
        now,
        NodeConfig::new(InfoHash([1; 20])),
        [7; 32],
        Arc::new(Lenient),
    );
    let key = InfoHash([0x5a; 20]);
    node.put(now, key, Value::new(0, vec![1]), true, None);
    node.listen(now, key, Query::all());
    let mut rest = data;
    let mut from = 0u8;
    while let [wait, a, b, tail @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*a, *b])).min(tail.len());
        let (datagram, more) = tail.split_at(len);
        rest = more;
        now += Duration::from_millis(u64::from(*wait) * 20);
        from = (from + 1) % 3;
        node.handle_datagram(now, ([127, 0, 0, 1 + from], 4222).into(), datagram);
        while node.poll_timeout().is_some_and(|at| at <= now) {
            node.handle_timeout(now);
        }
        while node.poll_transmit().is_some() {}
        while node.poll_event().is_some() {}
    }
}
