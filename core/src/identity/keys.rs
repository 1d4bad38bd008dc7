//! Private keys as text, and the key that owns a registered name.

use zeroize::Zeroizing;

use super::pem;
use crate::crypto::{Crypto, CryptoError, PrivateKey};

/// Label of an unencrypted PKCS#8 key in PEM.
pub(crate) const KEY_LABEL: &str = "PRIVATE KEY";

/// Reads an unencrypted PKCS#8 key in PEM, the only form in which Jami exchanges keys.
///
/// # Errors
/// [`CryptoError::BadKey`].
pub fn private_key_from_pem(
    crypto: &dyn Crypto,
    text: &[u8],
) -> Result<Box<dyn PrivateKey>, CryptoError> {
    let der = pem::blocks(text, KEY_LABEL)
        .next()
        .flatten()
        .ok_or(CryptoError::BadKey)?;
    crypto.read_private_key(&der)
}

/// Writes a key as unencrypted PKCS#8 in PEM.
pub fn private_key_to_pem(key: &dyn PrivateKey) -> Zeroizing<String> {
    pem::write(KEY_LABEL, &key.to_pkcs8())
}
