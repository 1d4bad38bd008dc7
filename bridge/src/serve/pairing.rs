//! Which browsers may call, and how they show who they are.
//!
//! # The wire, for whoever writes a page
//!
//! All bodies are JSON (`Content-Type: application/json`, required), at most 4 KiB. Binary values
//! are base64url without padding. Every request is same-origin; others are refused before they
//! get here. Errors are `{"error":{"code":"…","message":"a sentence"}}` with status 400, 401, 403
//! or 429; `code` is one of the API's error codes.
//!
//! 1. **Once**: the bridge prints `http://localhost:7474/#pair=CODE`. The page takes `CODE` from
//!    the fragment (browsers never send fragments), at once removes it from the address bar with
//!    `history.replaceState`, makes a key
//!    `crypto.subtle.generateKey("Ed25519", false, ["sign", "verify"])`, keeps the pair in
//!    IndexedDB, and sends
//!    `POST /pair` `{"code": CODE, "publicKey": <raw 32 bytes>, "name": "Firefox on Linux"}`
//!    → 200 `{"grant": "<id>", "role": "owner"}`. The page keeps `grant` beside the key.
//!    A code works once and for [`CODE_LIFE`]. Sending the same code with the same key again
//!    gives the same grant, so an answer lost on the way costs nothing.
//!    403 `not_authorised`: the code is unknown, used or too old; ask for a new one
//!    (`starling pair` on the bridge's machine, or another browser's settings).
//! 2. **Each session**: `GET /pair/challenge` → 200 `{"challenge": C}` (one use, 60 s). The page
//!    signs the ASCII text `starling-session-v1\n` + `location.origin` + `\n` + C and sends
//!    `POST /pair/session` `{"grant": G, "challenge": C, "signature": <64 bytes>}`
//!    → 200 `{"grant": G, "role": R, "expires": <ms since 1970>, "key": K}` and a cookie that
//!    scripts cannot read (`HttpOnly; SameSite=Strict; Path=/`, `Secure` and `__Host-` over TLS).
//!    Cookies know no ports: a server of another user of the machine, at another port of
//!    `localhost`, is sent this one too. So it is worth nothing without K, which the page keeps
//!    in memory. Any session of the same browser has a K that does: tabs share the cookie.
//!    403: the grant was revoked or the signature is wrong; forget the key and pair again.
//!    401: the challenge is unknown or too old; get another.
//! 3. `GET /pair/session` with the header `X-Starling-Key: K` → 200
//!    `{"grant": G, "role": R, "expires": …}` while cookie and key are good, else 401: do step 2.
//!    Sessions end with the bridge and after [`SESSION_LIFE`].
//! 4. With the cookie: `GET /api` as a WebSocket with the subprotocols `starling` (which is
//!    chosen) and `starling.key.K`. 401 without. Close codes: 4001 the grant was
//!    revoked (forget the key), 4002 too slow (reconnect, then `events.since`), 1001 the bridge
//!    stops, 1009 a frame above 1 MiB. `GET /objects/…` takes the cookie and `X-Starling-Key`.
//! 5. `POST /pair/logout` `{}` → 204: ends the browser's sessions, closes the sockets of all its
//!    tabs, and asks the browser to forget what it stored for the page.
//!
//! After a reconnect a page sends `events.since {seq}` first and keeps live events aside until
//! the answer is there; then it applies the answer, and of the live ones those with a larger
//! number. `gap: true` means: read everything anew. Numbers that a kiosk may not see are skipped.

use super::private::{FileError, make_private, random, write_private};
use crate::api::{Caller, CallerId, now_millis};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use starling_core::api::{Grant, LocalAccountId, Millis, PairingCode, Role};
use starling_core::id::ConversationId;
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq as _;
use tokio_util::sync::CancellationToken;

/// How long a code works: long enough to carry it to another screen.
pub const CODE_LIFE: Duration = Duration::from_secs(10 * 60);
/// How long a challenge works: signing takes milliseconds.
pub const CHALLENGE_LIFE: Duration = Duration::from_secs(60);
/// How long a session lasts; the page signs again by itself.
pub const SESSION_LIFE: Duration = Duration::from_secs(12 * 60 * 60);
/// Wrong codes and signatures within [`ATTEMPT_WINDOW`] before the bridge stops listening to
/// wrong ones. Right ones always work, so that nobody can lock the owner out; codes have 128 bits.
pub const MAX_ATTEMPTS: usize = 20;
/// See [`MAX_ATTEMPTS`].
pub const ATTEMPT_WINDOW: Duration = Duration::from_secs(60);
/// Codes that wait at the same time; the oldest gives way.
const MAX_CODES: usize = 16;
/// Challenges that wait at the same time; the oldest gives way.
const MAX_CHALLENGES: usize = 256;
/// Sessions at the same time; the oldest gives way.
const MAX_SESSIONS: usize = 256;
/// Browsers that are let in.
const MAX_GRANTS: usize = 128;
/// Sockets of one browser at the same time: tabs.
const MAX_SOCKETS: usize = 32;
/// Longest name of a browser, in characters.
const MAX_NAME: usize = 80;
/// `last_seen` is written to disk at most this often.
const LAST_SEEN_STEP: Millis = 60 * 60 * 1000;

const FILE: &str = "grants.json";
const FILE_VERSION: u32 = 1;

/// Why someone was not let in.
#[derive(Debug, thiserror::Error)]
pub enum PairingError {
    /// Not made by this bridge, used, or too old.
    #[error(
        "This pairing code does not work (any more). Run `starling pair` on the bridge's machine for a new one."
    )]
    BadCode,
    /// No Ed25519 key.
    #[error("This is not an Ed25519 public key of 32 bytes in base64url.")]
    BadKey,
    /// A field is missing or no base64url.
    #[error("The request cannot be read.")]
    BadRequest,
    /// Not made by this bridge, used, or too old.
    #[error("This challenge is unknown or too old; get another.")]
    BadChallenge,
    /// Not by the key of the grant.
    #[error("The signature is not by the key this browser was paired with. Pair it again.")]
    BadSignature,
    /// Revoked, or never given.
    #[error("This browser is not paired (any more). Pair it again.")]
    UnknownGrant,
    /// Too many wrong codes or signatures.
    #[error("Too many wrong attempts. Wait a minute.")]
    TooManyAttempts,
    /// There are as many as there may be.
    #[error("Too many browsers are paired. Revoke one first.")]
    TooManyGrants,
    /// The disk refused.
    #[error(transparent)]
    Storage(#[from] FileError),
}

/// What a new code gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGrant {
    /// What the browser may do.
    pub role: Role,
    /// The one account it may see.
    pub account: Option<LocalAccountId>,
    /// The conversations a kiosk may see.
    pub conversations: Vec<ConversationId>,
}

impl NewGrant {
    /// Everything.
    pub fn owner() -> Self {
        Self {
            role: Role::Owner,
            account: None,
            conversations: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StoredGrant {
    id: String,
    name: String,
    role: Role,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    account: Option<LocalAccountId>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    conversations: Vec<ConversationId>,
    public_key: String,
    created: Millis,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_seen: Option<Millis>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    version: u32,
    grants: Vec<StoredGrant>,
}

struct Code {
    /// SHA-256 of the code, so that comparing tells nothing about it.
    hash: [u8; 32],
    gives: NewGrant,
    until: Instant,
    /// Who used it, with which key.
    used: Option<(String, String)>,
}

struct Session {
    grant: String,
    /// SHA-256 of what the page has to show beside the cookie.
    key: [u8; 32],
    until: Instant,
    expires: Millis,
}

#[derive(Default)]
struct State {
    grants: BTreeMap<String, StoredGrant>,
    codes: VecDeque<Code>,
    challenges: VecDeque<([u8; 32], Instant)>,
    sessions: BTreeMap<[u8; 32], Session>,
    sockets: BTreeMap<String, BTreeMap<u64, CancellationToken>>,
    next_socket: u64,
    failures: VecDeque<Instant>,
    /// Where pages find the bridge; part of the URLs that are handed out.
    url: String,
}

/// What a browser gets when a session is opened.
#[derive(Debug)]
pub struct Opened {
    /// The cookie's value.
    pub cookie: String,
    /// What the page keeps, and shows beside the cookie.
    pub key: String,
    /// The session.
    pub info: SessionInfo,
}

/// An open session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionInfo {
    /// The grant's id.
    pub grant: String,
    /// What it allows.
    pub role: Role,
    /// When the session ends.
    pub expires: Millis,
}

/// The gate.
pub struct Pairing {
    path: PathBuf,
    admin_token: String,
    state: Mutex<State>,
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn text<const N: usize>() -> String {
    URL_SAFE_NO_PAD.encode(random::<N>())
}

fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

impl State {
    /// Counts a failure; says whether there were too many.
    fn failed(&mut self, now: Instant, otherwise: PairingError) -> PairingError {
        while self
            .failures
            .front()
            .is_some_and(|t| now.duration_since(*t) >= ATTEMPT_WINDOW)
        {
            self.failures.pop_front();
        }
        if self.failures.len() >= MAX_ATTEMPTS {
            return PairingError::TooManyAttempts;
        }
        self.failures.push_back(now);
        otherwise
    }

    /// Ends the sessions of a browser, and its sockets.
    fn close_all(&mut self, grant: &str) {
        self.sessions.retain(|_, s| s.grant != grant);
        for socket in self.sockets.remove(grant).into_iter().flatten() {
            socket.1.cancel();
        }
    }

    fn info(&self, session: &Session) -> Option<SessionInfo> {
        self.grants.get(&session.grant).map(|g| SessionInfo {
            grant: g.id.clone(),
            role: g.role,
            expires: session.expires,
        })
    }
}

impl Pairing {
    /// Reads the grants and the admin token, or makes a token.
    pub fn open(data_dir: &Path) -> Result<Self, FileError> {
        let path = data_dir.join(FILE);
        let mut state = State::default();
        match std::fs::read(&path) {
            Ok(bytes) => {
                make_private(&path)?;
                for grant in read_grants(&path, &bytes)? {
                    state.grants.insert(grant.id.clone(), grant);
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(FileError::io(&path, "read", e)),
        }
        Ok(Self {
            admin_token: open_token(&data_dir.join("admin.token"))?,
            path,
            state: Mutex::new(state),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Where pages find the bridge, once that is known.
    pub fn set_url(&self, url: &str) {
        self.lock().url = url.into();
    }

    /// A code that lets one browser in.
    pub fn new_code(&self, gives: NewGrant, now: Instant) -> PairingCode {
        let code = text::<16>();
        let mut state = self.lock();
        state.codes.retain(|c| c.until > now);
        if state.codes.len() >= MAX_CODES {
            state.codes.pop_front();
        }
        state.codes.push_back(Code {
            hash: hash(&code),
            gives,
            until: now + CODE_LIFE,
            used: None,
        });
        PairingCode {
            url: format!("{}/#pair={code}", state.url),
            code,
            expires: now_millis().saturating_add(millis(CODE_LIFE)),
        }
    }

    /// Step 1: a browser with a code brings its key; gives the grant's id and role.
    pub fn pair(
        &self,
        code: &str,
        public_key: &str,
        name: &str,
        now: Instant,
    ) -> Result<(String, Role), PairingError> {
        let key: [u8; 32] = decode(public_key).ok_or(PairingError::BadKey)?;
        if VerifyingKey::from_bytes(&key).map_or(true, |k| k.is_weak()) {
            return Err(PairingError::BadKey);
        }
        let wanted = hash(code);
        let mut state = self.lock();
        let found = state
            .codes
            .iter()
            .position(|c| bool::from(c.hash.ct_eq(&wanted)) && c.until > now);
        let Some(code) = found.and_then(|i| state.codes.get(i)) else {
            return Err(state.failed(now, PairingError::BadCode));
        };
        if let Some((grant, by)) = &code.used {
            return match state.grants.get(grant) {
                Some(g) if by == public_key => Ok((g.id.clone(), g.role)),
                _ => Err(state.failed(now, PairingError::BadCode)),
            };
        }
        if state.grants.len() >= MAX_GRANTS {
            return Err(PairingError::TooManyGrants);
        }
        let grant = StoredGrant {
            id: hex::encode(random::<8>()),
            name: clean_name(name),
            role: code.gives.role,
            account: code.gives.account.clone(),
            conversations: code.gives.conversations.clone(),
            public_key: public_key.into(),
            created: now_millis(),
            last_seen: None,
        };
        let given = (grant.id.clone(), grant.role);
        state.grants.insert(grant.id.clone(), grant);
        // On the disk before the browser relies on it; and not at all if the disk refuses.
        if let Err(e) = self.write(&state) {
            state.grants.remove(&given.0);
            return Err(e.into());
        }
        if let Some(code) = found.and_then(|i| state.codes.get_mut(i)) {
            code.used = Some((given.0.clone(), public_key.into()));
        }
        Ok(given)
    }

    /// Step 2, first half: something to sign.
    pub fn challenge(&self, now: Instant) -> String {
        let challenge = text::<32>();
        let mut state = self.lock();
        state.challenges.retain(|(_, until)| *until > now);
        if state.challenges.len() >= MAX_CHALLENGES {
            state.challenges.pop_front();
        }
        let until = now + CHALLENGE_LIFE;
        state.challenges.push_back((hash(&challenge), until));
        challenge
    }

    /// Step 2, second half: the signature opens a session.
    pub fn open_session(
        &self,
        grant: &str,
        challenge: &str,
        signature: &str,
        origin: &str,
        now: Instant,
    ) -> Result<Opened, PairingError> {
        let mut state = self.lock();
        let wanted = hash(challenge);
        state.challenges.retain(|(_, until)| *until > now);
        let found = state.challenges.iter().position(|(h, _)| *h == wanted);
        // Right or wrong, a challenge serves once.
        if found.and_then(|i| state.challenges.remove(i)).is_none() {
            return Err(PairingError::BadChallenge);
        }
        let signature: [u8; 64] = decode(signature).ok_or(PairingError::BadRequest)?;
        let Some(stored) = state.grants.get(grant) else {
            return Err(state.failed(now, PairingError::UnknownGrant));
        };
        let key = decode::<32>(&stored.public_key)
            .and_then(|k| VerifyingKey::from_bytes(&k).ok())
            .ok_or(PairingError::BadKey)?;
        let message = signed_text(origin, challenge);
        let good = key
            .verify_strict(message.as_bytes(), &Signature::from_bytes(&signature))
            .is_ok();
        if !good {
            return Err(state.failed(now, PairingError::BadSignature));
        }
        state.sessions.retain(|_, s| s.until > now);
        if state.sessions.len() >= MAX_SESSIONS {
            let oldest = state.sessions.iter().min_by_key(|(_, s)| s.until);
            if let Some(oldest) = oldest.map(|(k, _)| *k) {
                state.sessions.remove(&oldest);
            }
        }
        let (cookie, key) = (text::<32>(), text::<32>());
        let session = Session {
            grant: grant.into(),
            key: hash(&key),
            until: now + SESSION_LIFE,
            expires: now_millis().saturating_add(millis(SESSION_LIFE)),
        };
        let info = state.info(&session).ok_or(PairingError::UnknownGrant)?;
        state.sessions.insert(hash(&cookie), session);
        self.seen(&mut state, grant);
        Ok(Opened { cookie, key, info })
    }

    fn seen(&self, state: &mut State, grant: &str) {
        let now = now_millis();
        let Some(stored) = state.grants.get_mut(grant) else {
            return;
        };
        let stale = stored.last_seen.is_none_or(|t| now - t > LAST_SEEN_STEP);
        stored.last_seen = Some(now);
        if stale && let Err(e) = self.write(state) {
            // Only a time is lost.
            tracing::warn!(error = %e, "When a browser was last seen could not be written.");
        }
    }

    /// Whether a cookie's value is a session that lasts, and the key one of the same browser's.
    pub fn session(&self, cookie: &str, key: &str, now: Instant) -> Option<SessionInfo> {
        let state = self.lock();
        let session = state.sessions.get(&hash(cookie))?;
        let key = hash(key);
        let known = state
            .sessions
            .values()
            .filter(|s| s.grant == session.grant && s.until > now)
            .any(|s| bool::from(s.key.ct_eq(&key)));
        if session.until <= now || !known {
            return None;
        }
        state.info(session)
    }

    /// Ends all sessions of the browser that holds this cookie, and closes its sockets.
    pub fn log_out(&self, cookie: &str) {
        let mut state = self.lock();
        let Some(session) = state.sessions.remove(&hash(cookie)) else {
            return;
        };
        state.close_all(&session.grant);
    }

    /// Who holds this cookie and this key.
    pub fn caller(&self, cookie: &str, key: &str, now: Instant) -> Option<Caller> {
        let info = self.session(cookie, key, now)?;
        let state = self.lock();
        let grant = state.grants.get(&info.grant)?;
        Some(Caller {
            id: CallerId::Grant(grant.id.clone()),
            role: grant.role,
            account: grant.account.clone(),
            conversations: grant.conversations.iter().copied().collect(),
        })
    }

    /// Whether this is the admin token; compared in constant time.
    pub fn is_admin(&self, token: &str) -> bool {
        hash(token).ct_eq(&hash(&self.admin_token)).into()
    }

    /// Counts a socket of a caller. The token is cancelled when the grant is revoked. `None`: it
    /// was revoked already, or has too many sockets.
    pub fn socket_opened(&self, caller: &Caller) -> Option<(u64, CancellationToken)> {
        let mut state = self.lock();
        state.next_socket += 1;
        let number = state.next_socket;
        let token = CancellationToken::new();
        if let Some(grant) = caller.grant() {
            if !state.grants.contains_key(grant) {
                return None;
            }
            let of_grant = state.sockets.entry(grant.to_owned()).or_default();
            if of_grant.len() >= MAX_SOCKETS {
                return None;
            }
            of_grant.insert(number, token.clone());
        }
        Some((number, token))
    }

    /// The socket is gone.
    pub fn socket_closed(&self, caller: &Caller, number: u64) {
        let mut state = self.lock();
        if let Some(grant) = caller.grant()
            && let Some(of_grant) = state.sockets.get_mut(grant)
        {
            of_grant.remove(&number);
            if of_grant.is_empty() {
                state.sockets.remove(grant);
            }
        }
    }

    /// Throws a browser out: its grant, its sessions and its sockets.
    pub fn revoke(&self, grant: &str) -> Result<(), PairingError> {
        let mut state = self.lock();
        let removed = state
            .grants
            .remove(grant)
            .ok_or(PairingError::UnknownGrant)?;
        if let Err(e) = self.write(&state) {
            state.grants.insert(removed.id.clone(), removed);
            return Err(e.into());
        }
        state.close_all(grant);
        Ok(())
    }

    /// Everyone who was let in; `current` marks the one that asks.
    pub fn list(&self, current: Option<&str>) -> Vec<Grant> {
        let state = self.lock();
        let sockets = |id: &str| state.sockets.get(id).map_or(0, BTreeMap::len);
        state
            .grants
            .values()
            .map(|g| Grant {
                id: g.id.clone(),
                name: g.name.clone(),
                role: g.role,
                account: g.account.clone(),
                conversations: g.conversations.clone(),
                created: g.created,
                last_seen: g.last_seen,
                connected: u32::try_from(sockets(&g.id)).unwrap_or(u32::MAX),
                current: current == Some(g.id.as_str()),
            })
            .collect()
    }

    fn write(&self, state: &State) -> Result<(), FileError> {
        let stored = Stored {
            version: FILE_VERSION,
            grants: state.grants.values().cloned().collect(),
        };
        let bytes = serde_json::to_vec_pretty(&stored)
            .map_err(|e| FileError::io(&self.path, "written", e.into()))?;
        write_private(&self.path, &bytes)
    }
}

/// What a page signs: bound to the origin, so that a signature made for one bridge opens no other.
pub fn signed_text(origin: &str, challenge: &str) -> String {
    format!("starling-session-v1\n{origin}\n{challenge}")
}

fn millis(d: Duration) -> Millis {
    Millis::try_from(d.as_millis()).unwrap_or(Millis::MAX)
}

fn clean_name(name: &str) -> String {
    let name: String = name
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_NAME)
        .collect();
    match name.trim() {
        "" => "A browser".into(),
        name => name.into(),
    }
}

fn read_grants(path: &Path, bytes: &[u8]) -> Result<Vec<StoredGrant>, FileError> {
    let damaged = |why: String| FileError::Damaged {
        path: path.into(),
        why,
        lost: "every browser has to be paired again, nothing else is lost.",
    };
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let version: Version = serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string()))?;
    if version.version > FILE_VERSION {
        return Err(FileError::Newer { path: path.into() });
    }
    let stored: Stored = serde_json::from_slice(bytes).map_err(|e| damaged(e.to_string()))?;
    for grant in &stored.grants {
        if decode::<32>(&grant.public_key).is_none() {
            return Err(damaged(format!("the key of {:?} is no key", grant.name)));
        }
    }
    Ok(stored.grants)
}

fn open_token(path: &Path) -> Result<String, FileError> {
    match std::fs::read_to_string(path) {
        Ok(token) => {
            make_private(path)?;
            let token = token.trim().to_owned();
            if token.len() < 32 {
                return Err(FileError::Damaged {
                    path: path.into(),
                    why: "it is too short to be a token".into(),
                    lost: "a new token is made then.",
                });
            }
            Ok(token)
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let token = hex::encode(random::<32>());
            write_private(path, token.as_bytes())?;
            Ok(token)
        }
        Err(e) => Err(FileError::io(path, "read", e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::{Signer as _, SigningKey};

    const ORIGIN: &str = "http://localhost:7474";

    fn key(n: u8) -> (SigningKey, String) {
        let key = SigningKey::from_bytes(&[n; 32]);
        let public = URL_SAFE_NO_PAD.encode(key.verifying_key().to_bytes());
        (key, public)
    }

    fn sign(key: &SigningKey, origin: &str, challenge: &str) -> String {
        let text = signed_text(origin, challenge);
        URL_SAFE_NO_PAD.encode(key.sign(text.as_bytes()).to_bytes())
    }

    fn open() -> (tempfile::TempDir, Pairing) {
        let dir = tempfile::tempdir().expect("a directory");
        let pairing = Pairing::open(dir.path()).expect("to open");
        (dir, pairing)
    }

    #[test]
    fn a_code_lets_one_key_in_once_and_a_signature_opens_a_session() {
        let (dir, p) = open();
        let now = Instant::now();
        let (alice, alice_public) = key(1);
        let (_, mallory_public) = key(2);
        let code = p.new_code(NewGrant::owner(), now).code;
        let (grant, role) = p
            .pair(&code, &alice_public, " Fire\nfox ", now)
            .expect("in");
        assert_eq!(role, Role::Owner);
        // The same once more, because the answer was lost.
        assert_eq!(p.pair(&code, &alice_public, "", now).expect("in").0, grant);
        assert!(matches!(
            p.pair(&code, &mallory_public, "", now),
            Err(PairingError::BadCode)
        ));
        let c = p.challenge(now);
        let s = sign(&alice, ORIGIN, &c);
        let Opened { cookie, key, info } = p
            .open_session(&grant, &c, &s, ORIGIN, now)
            .expect("a session");
        assert_eq!(info.role, Role::Owner);
        assert!(p.caller(&cookie, &key, now).is_some());
        assert!(p.caller(&cookie, &key, now + SESSION_LIFE).is_none());
        assert!(p.caller("x", &key, now).is_none());
        assert!(p.caller(&cookie, "", now).is_none());
        assert!(p.caller(&cookie, &cookie, now).is_none());
        assert!(p.caller(&key, &key, now).is_none());
        // Not twice with one challenge.
        assert!(matches!(
            p.open_session(&grant, &c, &s, ORIGIN, now),
            Err(PairingError::BadChallenge)
        ));
        // Grants outlive the process, sessions do not.
        let again = Pairing::open(dir.path()).expect("to open");
        assert!(again.caller(&cookie, &key, now).is_none());
        assert_eq!(again.list(Some(&grant))[0].name, "Firefox");
        assert!(again.list(Some(&grant))[0].current);
    }

    #[test]
    fn wrong_signatures_open_nothing() {
        let (_dir, p) = open();
        let now = Instant::now();
        let (alice, alice_public) = key(1);
        let (mallory, _) = key(2);
        let code = p.new_code(NewGrant::owner(), now).code;
        let (grant, _) = p.pair(&code, &alice_public, "a", now).expect("in");
        for (signer, origin) in [(&mallory, ORIGIN), (&alice, "http://evil.example")] {
            let c = p.challenge(now);
            let s = sign(signer, origin, &c);
            assert!(matches!(
                p.open_session(&grant, &c, &s, ORIGIN, now),
                Err(PairingError::BadSignature)
            ));
        }
        let c = p.challenge(now);
        let s = sign(&alice, ORIGIN, &c);
        let late = now + CHALLENGE_LIFE;
        assert!(p.open_session(&grant, &c, &s, ORIGIN, late).is_err());
        // The identity point and other keys for which anything verifies.
        let mut identity = [0; 32];
        identity[0] = 1;
        let code = p.new_code(NewGrant::owner(), now).code;
        assert!(matches!(
            p.pair(&code, &URL_SAFE_NO_PAD.encode(identity), "w", now),
            Err(PairingError::BadKey)
        ));
    }

    #[test]
    fn guessing_is_slowed_down_but_locks_nobody_out() {
        let (_dir, p) = open();
        let now = Instant::now();
        let (_, public) = key(1);
        let code = p.new_code(NewGrant::owner(), now).code;
        for _ in 0..MAX_ATTEMPTS {
            assert!(matches!(
                p.pair("guess", &public, "", now),
                Err(PairingError::BadCode)
            ));
        }
        assert!(matches!(
            p.pair("guess", &public, "", now),
            Err(PairingError::TooManyAttempts)
        ));
        let later = now + ATTEMPT_WINDOW;
        assert!(matches!(
            p.pair("guess", &public, "", later),
            Err(PairingError::BadCode)
        ));
        assert!(p.pair(&code, &public, "", now).is_ok());
    }

    #[test]
    fn a_code_grows_old() {
        let (_dir, p) = open();
        let now = Instant::now();
        let code = p.new_code(NewGrant::owner(), now).code;
        assert!(p.pair(&code, &key(1).1, "", now + CODE_LIFE).is_err());
    }

    #[test]
    fn revoking_closes_sessions_and_sockets() {
        let (dir, p) = open();
        let now = Instant::now();
        let (alice, public) = key(1);
        let code = p.new_code(NewGrant::owner(), now).code;
        let (grant, _) = p.pair(&code, &public, "a", now).expect("in");
        let c = p.challenge(now);
        let s = sign(&alice, ORIGIN, &c);
        let Opened { cookie, key, .. } = p
            .open_session(&grant, &c, &s, ORIGIN, now)
            .expect("a session");
        let caller = p.caller(&cookie, &key, now).expect("a caller");
        let (_, closed) = p.socket_opened(&caller).expect("a socket");
        assert_eq!(p.list(None)[0].connected, 1);
        p.revoke(&grant).expect("to revoke");
        assert!(closed.is_cancelled());
        assert!(p.caller(&cookie, &key, now).is_none());
        assert!(p.socket_opened(&caller).is_none());
        assert!(
            Pairing::open(dir.path())
                .expect("to open")
                .list(None)
                .is_empty()
        );
        assert!(matches!(p.revoke(&grant), Err(PairingError::UnknownGrant)));
    }

    #[test]
    fn a_cookie_needs_a_key_of_the_same_browser() {
        let (_dir, p) = open();
        let now = Instant::now();
        let session = |n| {
            let (signer, public) = key(n);
            let code = p.new_code(NewGrant::owner(), now).code;
            let (grant, _) = p.pair(&code, &public, "a", now).expect("in");
            let again = || {
                let c = p.challenge(now);
                let s = sign(&signer, ORIGIN, &c);
                p.open_session(&grant, &c, &s, ORIGIN, now)
                    .expect("a session")
            };
            (again(), again())
        };
        let (alice, of_another_tab) = session(1);
        let (bob, _) = session(2);
        assert!(p.session(&alice.cookie, &of_another_tab.key, now).is_some());
        assert!(p.session(&of_another_tab.cookie, &alice.key, now).is_some());
        assert!(p.session(&alice.cookie, &bob.key, now).is_none());
        // Logging out is for all tabs, and for nobody else.
        let caller = p.caller(&alice.cookie, &alice.key, now).expect("a caller");
        let (_, closed) = p.socket_opened(&caller).expect("a socket");
        p.log_out(&of_another_tab.cookie);
        assert!(closed.is_cancelled());
        assert!(p.session(&alice.cookie, &alice.key, now).is_none());
        assert!(p.session(&bob.cookie, &bob.key, now).is_some());
    }

    #[test]
    fn damaged_grants_are_named_and_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(FILE);
        for bad in [
            "",
            "{",
            "[]",
            r#"{"version":1}"#,
            r#"{"version":1,"grants":[{"id":1}]}"#,
        ] {
            std::fs::write(&path, bad).expect("to write");
            let e = Pairing::open(dir.path())
                .err()
                .expect("an error")
                .to_string();
            assert!(e.contains("grants.json is damaged"), "{e}");
            assert_eq!(std::fs::read_to_string(&path).expect("to read"), bad);
        }
        std::fs::write(&path, r#"{"version":2,"whatever":true}"#).expect("to write");
        let e = Pairing::open(dir.path())
            .err()
            .expect("an error")
            .to_string();
        assert!(e.contains("newer"), "{e}");
    }

    #[test]
    fn the_admin_token_is_made_once_and_is_private() {
        let (dir, p) = open();
        let token = std::fs::read_to_string(dir.path().join("admin.token")).expect("a token");
        assert_eq!(token.len(), 64);
        assert!(p.is_admin(&token) && !p.is_admin("") && !p.is_admin(&token[1..]));
        let again = Pairing::open(dir.path()).expect("to open");
        assert!(again.is_admin(&token));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let path = dir.path().join("admin.token");
            let mode = || {
                std::fs::metadata(&path)
                    .expect("there")
                    .permissions()
                    .mode()
                    & 0o777
            };
            assert_eq!(mode(), 0o600);
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("set");
            Pairing::open(dir.path()).expect("to open");
            assert_eq!(mode(), 0o600);
        }
    }
}
