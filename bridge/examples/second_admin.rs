//! Gives a conversation a second admin, for tests of what only several admins can do.
//!
//! No commit makes an admin: the first one may bring exactly one, and no rule lets a later one write
//! below `admins/`. So this one, rightly signed, breaks the rules, and nobody would take it from
//! anybody. It is put straight into every copy of the repository instead, as if it had been there
//! before the rules were; all that follows is judged as ever.
//!
//! `second_admin CONVERSATION MEMBER DIR...`: the data directories of bridges that do not run, the
//! present admin's first. All must have the same newest commit.

use starling_bridge::account::registry::Accounts;
use starling_bridge::account::{Bounds, Context};
use starling_bridge::crypto::AwsLc;
use starling_bridge::dht::{Dht, DhtConfig};
use starling_core::id::{AccountId, ConversationId, ObjectId};
use starling_core::swarm::commit::{Commit, Draft};
use starling_core::swarm::message::Message;
use starling_core::swarm::object::{Kind, Objects};
use starling_core::swarm::path::TreePath;
use starling_core::swarm::tree::Trees;
use starling_core::swarm::write::{Repository, WriteError, Writer, Written};
use std::collections::BTreeMap;
use std::error::Error;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;

/// The commit that makes a member an admin. Its message is that of a merge, which nobody is shown.
fn promotion(
    objects: &dyn Objects,
    head: ObjectId,
    who: AccountId,
    writer: &Writer<'_>,
    now: u64,
) -> Result<Written, WriteError> {
    let missing = WriteError::NotThere;
    let Some((Kind::Commit, data)) = objects.object(&head) else {
        return Err(missing);
    };
    let before = Commit::parse(&data).map_err(|_| missing.clone())?.tree;
    let mut trees = Trees::new(objects);
    let certificate = trees.lookup(before, &TreePath::member(who))?;
    let edits = BTreeMap::from([
        (TreePath::member(who), None),
        (TreePath::admin(who), Some(certificate.ok_or(missing)?)),
    ]);
    let (tree, mut objects) = trees.change(Some(before), &edits)?;
    let message = Message::merge(head);
    let draft = Draft {
        tree,
        parents: vec![head],
        name: writer.name,
        device: writer.device,
        time: now,
        message: &message.to_text(),
    };
    let commit = draft.sign(writer.key)?;
    let id = commit.id;
    objects.push(commit);
    Ok(Written {
        commit: id,
        tree,
        message,
        objects,
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "second_admin CONVERSATION MEMBER DIR...";
    let conversation: ConversationId = arguments.next().ok_or(usage)?.parse()?;
    let who: AccountId = arguments.next().ok_or(usage)?.parse()?;
    let mut made: Option<(ObjectId, Written)> = None;
    for dir in arguments {
        let nowhere = DhtConfig {
            bind_v4: Some(Ipv4Addr::LOCALHOST),
            bind_v6: None,
            ..DhtConfig::default()
        };
        let context = Context {
            emit: Arc::new(|_| ()),
            dht: Dht::start(nowhere, Arc::new(AwsLc))?,
            loopback: true,
            bounds: Bounds::default(),
        };
        let accounts = Accounts::open(Path::new(&dir), context).await?;
        let account = accounts.all().first().cloned().ok_or("no account")?;
        let here = account
            .conversation(&conversation)
            .ok_or("no such conversation")?;
        let (head, store) = (here.head(), here.store.clone());
        let planted = made.clone();
        let (tell, told) = std::sync::mpsc::channel();
        account
            .write(conversation, move |_: &mut Repository<'_>, writer, now| {
                let written = match planted {
                    Some((before, written)) if before == head => written,
                    Some(_) => return Err(WriteError::NotThere),
                    None => promotion(&*store, head, who, writer, now)?,
                };
                let _ = tell.send(written.clone());
                Ok(written)
            })
            .await?;
        made = Some((head, told.recv()?));
        accounts.stop().await;
    }
    Ok(())
}
