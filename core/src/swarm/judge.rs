//! What validation knows of the people: certificates in trees, authors, the first commit.

use super::ancestry::{WalkError, Walker};
use super::commit::Commit;
use super::message::{ConversationMode, Message};
use super::misbehaviour::Misbehaviour;
use super::object::{Kind, Objects};
use super::path::{Standing, Target, TreePath};
use super::tree::Trees;
use crate::id::{AccountId, ConversationId, DeviceId, ObjectId};
use crate::identity::Certificate;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Most certificates in one file: account, CA, and room for a managed account's longer chain.
const MAX_CHAIN: usize = 6;

/// Largest certificate file read, bytes: [`MAX_CHAIN`] certificates of 64 KiB in PEM; our limit.
const MAX_CERTIFICATE_FILE: usize = 512 * 1024;

/// How many certificates and authors are kept, some kilobytes each; our choice.
const CACHED: usize = 20_000;

/// How a conversation began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Its mode.
    pub mode: ConversationMode,
    /// The account that made it, when its device's certificate says.
    pub creator: Option<AccountId>,
    /// The other one of a one-to-one conversation.
    pub invited: Option<AccountId>,
}

/// The author of a commit, as a tree tells.
#[derive(Debug, Clone)]
pub struct Author {
    /// The account.
    pub account: AccountId,
    /// Admin or member.
    pub standing: Standing,
    /// The device's certificate.
    pub device_certificate: Certificate,
    /// The account's certificate, its issuers after it.
    pub account_chain: Arc<[Certificate]>,
    pub(super) device_blob: ObjectId,
}

impl Author {
    /// That neither certificate had expired at that time, unix seconds. Gives the account's.
    pub(super) fn in_force_at(
        &self,
        device: DeviceId,
        time: i64,
    ) -> Result<&Certificate, Misbehaviour> {
        let device_path = TreePath::device(device);
        let account_path = TreePath::Live(Target::Account(self.standing, self.account));
        let account_certificate = self
            .account_chain
            .first()
            .ok_or(Misbehaviour::UnreadableCertificate(account_path))?;
        for (certificate, path) in [
            (&self.device_certificate, device_path),
            (account_certificate, account_path),
        ] {
            if i64::try_from(certificate.not_after()).is_ok_and(|end| end < time) {
                return Err(Misbehaviour::CertificateExpired(path));
            }
        }
        Ok(account_certificate)
    }
}

/// Looks people up in trees, and keeps what it found.
pub struct Judge<'a> {
    pub(super) trees: Trees<'a>,
    pub(super) walker: Walker<'a>,
    pub(super) conversation: ConversationId,
    pub(super) pinned: BTreeMap<DeviceId, AccountId>,
    root: Option<Arc<Root>>,
    chains: BTreeMap<ObjectId, Option<Arc<[Certificate]>>>,
    authors: BTreeMap<(ObjectId, DeviceId), Arc<Author>>,
    /// Device certificates (by blob) whose account's signature was asked for already.
    pub(super) vouched: BTreeSet<(ObjectId, AccountId)>,
}

impl From<WalkError> for Misbehaviour {
    fn from(error: WalkError) -> Self {
        match error {
            WalkError::Missing(id) => Misbehaviour::MissingObject(id),
            WalkError::NotACommit(_) => Misbehaviour::NotACommit,
            WalkError::TooMany(max) => Misbehaviour::TooManyCommits(max),
            WalkError::TooTangled => Misbehaviour::TooTangled,
        }
    }
}

impl<'a> Judge<'a> {
    /// A judge for one conversation.
    pub fn new(objects: &'a dyn Objects, conversation: ConversationId) -> Self {
        Self {
            trees: Trees::new(objects),
            walker: Walker::new(objects),
            conversation,
            pinned: BTreeMap::new(),
            root: None,
            chains: BTreeMap::new(),
            authors: BTreeMap::new(),
            vouched: BTreeSet::new(),
        }
    }

    /// Reads a commit.
    pub fn commit(&self, id: ObjectId) -> Result<Commit, Misbehaviour> {
        match self.trees.objects().object(&id) {
            Some((Kind::Commit, data)) => {
                Commit::parse(&data).map_err(Misbehaviour::MalformedCommit)
            }
            Some(_) => Err(Misbehaviour::NotACommit),
            None => Err(Misbehaviour::MissingObject(id)),
        }
    }

    /// How the conversation began.
    pub fn root(&mut self) -> Result<Arc<Root>, Misbehaviour> {
        if let Some(root) = &self.root {
            return Ok(root.clone());
        }
        let commit = self.commit(self.conversation.into())?;
        let Message::Initial { mode, invited, .. } =
            Message::parse(&commit.message).map_err(Misbehaviour::from)?
        else {
            return Err(Misbehaviour::RootIsNotInitial);
        };
        let creator = self.account_of(commit.tree, commit.device)?;
        let invited = invited.and_then(|i| i.parse().ok());
        let root = Arc::new(Root {
            mode,
            creator,
            invited,
        });
        self.root = Some(root.clone());
        Ok(root)
    }

    /// The certificates of a file.
    pub fn chain(
        &mut self,
        blob: ObjectId,
        path: TreePath,
    ) -> Result<Arc<[Certificate]>, Misbehaviour> {
        if let Some(chain) = self.chains.get(&blob) {
            return chain
                .clone()
                .ok_or(Misbehaviour::UnreadableCertificate(path));
        }
        let chain = match self.trees.objects().object(&blob) {
            Some((Kind::Blob, data)) if data.len() <= MAX_CERTIFICATE_FILE => {
                Certificate::list_from_pem(&data, MAX_CHAIN)
                    .ok()
                    .map(Arc::from)
            }
            Some(_) => None,
            None => return Err(Misbehaviour::MissingObject(blob)),
        };
        if self.chains.len() >= CACHED {
            self.chains.clear();
        }
        self.chains.insert(blob, chain.clone());
        chain.ok_or(Misbehaviour::UnreadableCertificate(path))
    }

    /// The first certificate of a file, which must be that of the key its path names.
    pub fn certificate(
        &mut self,
        blob: ObjectId,
        path: TreePath,
    ) -> Result<Certificate, Misbehaviour> {
        let chain = self.chain(blob, path)?;
        let first = chain
            .first()
            .ok_or(Misbehaviour::UnreadableCertificate(path))?;
        let same = match path {
            TreePath::Live(Target::Device(id)) | TreePath::Banned(Target::Device(id)) => {
                first.device_id() == id
            }
            TreePath::Live(Target::Account(_, id)) | TreePath::Banned(Target::Account(_, id)) => {
                first.account_id() == id
            }
            _ => false,
        };
        if same {
            Ok(first.clone())
        } else {
            Err(Misbehaviour::CertificateMismatch(path))
        }
    }

    /// The account a device's certificate names. Managed accounts may leave the name
    /// empty; then what is pinned counts.
    pub(super) fn names_account(
        &self,
        certificate: &Certificate,
        device: DeviceId,
    ) -> Option<AccountId> {
        match certificate.issuer_uid() {
            Some(uid) if !uid.is_empty() => uid.parse().ok(),
            _ => self.pinned.get(&device).copied(),
        }
    }

    /// The account of a device by its certificate in a tree, if there is one.
    pub fn account_of(
        &mut self,
        tree: ObjectId,
        device: DeviceId,
    ) -> Result<Option<AccountId>, Misbehaviour> {
        let path = TreePath::device(device);
        let Some(blob) = self.trees.lookup(tree, &path)? else {
            return Ok(None);
        };
        let certificate = self.certificate(blob, path)?;
        Ok(self.names_account(&certificate, device))
    }

    /// Who a device is in a tree: its certificate, its account's, what the account is.
    pub fn author(
        &mut self,
        tree: ObjectId,
        device: DeviceId,
    ) -> Result<Arc<Author>, Misbehaviour> {
        if let Some(author) = self.authors.get(&(tree, device)) {
            return Ok(author.clone());
        }
        let path = TreePath::device(device);
        let device_blob = self
            .trees
            .lookup(tree, &path)?
            .ok_or(Misbehaviour::DeviceNotAuthorised)?;
        let device_certificate = self.certificate(device_blob, path)?;
        let account = self
            .names_account(&device_certificate, device)
            .ok_or(Misbehaviour::DeviceWithoutAccount)?;
        let mut found = None;
        // Members first, as the reference looks.
        for standing in [Standing::Member, Standing::Admin] {
            let path = TreePath::Live(Target::Account(standing, account));
            if let Some(blob) = self.trees.lookup(tree, &path)? {
                found = Some((standing, path, blob));
                break;
            }
        }
        let (standing, path, account_blob) = found.ok_or(Misbehaviour::NotAMember)?;
        self.certificate(account_blob, path)?;
        let author = Arc::new(Author {
            account,
            standing,
            device_certificate,
            account_chain: self.chain(account_blob, path)?,
            device_blob,
        });
        if self.authors.len() >= CACHED {
            self.authors.clear();
        }
        self.authors.insert((tree, device), author.clone());
        Ok(author)
    }

    /// Whether a path is in a tree.
    pub fn has(&mut self, tree: ObjectId, path: TreePath) -> Result<bool, Misbehaviour> {
        Ok(self.trees.lookup(tree, &path)?.is_some())
    }

    /// The admins of a tree.
    pub fn admins(&mut self, tree: ObjectId) -> Result<BTreeSet<AccountId>, Misbehaviour> {
        let files = self.trees.list(tree, &["admins"])?;
        Ok(files
            .iter()
            .filter_map(|(name, _)| name.strip_suffix(".crt")?.parse().ok())
            .collect())
    }
}
