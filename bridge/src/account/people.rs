//! The people an account knows: contacts, requests to and from them, their cards.

use super::book::{Book, Incoming, Local, Offered, Outgoing, Profile};
use super::{Account, AccountError, now_ms};
use crate::store::state::StateError;
use base64::Engine as _;
use starling_core::account::{
    ConvInfo, ConversationRequest, MAX_TRUST_PAYLOAD, MODE_ONE_TO_ONE, Offer, Photo, Received,
    TrustRequest, TrustStatus, VCard, receive_trust_request,
};
use starling_core::api::{self, ApiError, ConversationMode, ErrorCode, Event};
use starling_core::dht::types;
use starling_core::id::{AccountId, ConversationId, DeviceId};
use starling_core::notice::Notice;
use starling_core::peer::channel_name::Arguments;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Longest greeting that goes with a request, in bytes.
const MAX_GREETING: usize = 4096;

/// The pause before a request that could not be sent is tried again.
const SEND_AGAIN: Duration = Duration::from_secs(30);

/// The line of a card that holds the words sent with a request. Unknown lines are kept and
/// ignored by every other client.
const GREETING: &str = "NOTE";

/// A card of what a person says of themselves.
pub(super) fn card(profile: &Profile) -> Vec<u8> {
    let mut card = VCard::new(&profile.display_name);
    if let Some(photo) = profile.avatar.as_deref().and_then(read_data_url) {
        card.set_photo(Some(&photo));
    }
    card.to_string().into_bytes()
}

/// What a card says of a person.
pub(super) fn profile(card: &VCard) -> Profile {
    let avatar = card.photo().map(|p| {
        let kind = if p.kind.eq_ignore_ascii_case("png") {
            "png"
        } else {
            "jpeg"
        };
        format!(
            "data:image/{kind};base64,{}",
            base64::engine::general_purpose::STANDARD.encode(&p.data)
        )
    });
    Profile {
        display_name: clean(card.display_name()),
        avatar,
    }
}

/// The arguments of a channel on which a card is given: its sum, so that it need not be taken twice.
pub(super) fn card_arguments(card: &[u8]) -> Arguments {
    use sha3::Digest as _;
    let sum = hex::encode(sha3::Sha3_512::digest(card));
    Arguments::new([("sha3", sum.as_str())])
}

/// A name as it may be shown: without control characters and line ends, at most 200 characters.
pub(super) fn clean(name: &str) -> String {
    name.chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect::<String>()
        .trim()
        .to_owned()
}

/// The picture of a `data:` URL.
fn read_data_url(url: &str) -> Option<Photo> {
    let (head, data) = url.strip_prefix("data:image/")?.split_once(";base64,")?;
    let kind = match head {
        "png" => "PNG",
        "jpeg" | "jpg" => "JPEG",
        _ => return None,
    };
    Some(Photo {
        kind: kind.into(),
        data: base64::engine::general_purpose::STANDARD
            .decode(data)
            .ok()?,
    })
}

fn mode_of(number: u8) -> ConversationMode {
    ConversationMode::from_number(i64::from(number))
}

impl Account {
    // --- views ---

    /// A contact as the API shows it.
    fn contact_view(&self, book: &Book, id: AccountId) -> api::Contact {
        let contact = book.contact(&id);
        let profile = book.profile(&id);
        api::Contact {
            id,
            display_name: profile.display_name,
            registered_name: None,
            avatar: profile.avatar,
            added: i64::try_from(contact.added_ms).unwrap_or(0),
            confirmed: contact.confirmed,
            blocked: contact.is_blocked(),
            conversation: contact.conversation,
            presence: self.presence(&id),
        }
    }

    fn request_view(request: &ConversationRequest, profile: Profile) -> api::Request {
        let field = |key: &str| request.metadata.get(key).filter(|v| !v.is_empty()).cloned();
        let mode = mode_of(request.mode());
        let group = mode != ConversationMode::OneToOne;
        api::Request {
            conversation: request.conversation,
            from: request.from,
            display_name: if profile.display_name.is_empty() && !group {
                field("title").unwrap_or_default()
            } else {
                profile.display_name
            },
            avatar: profile.avatar.or_else(|| {
                field("avatar").map(|a| {
                    if a.starts_with("data:") {
                        a
                    } else {
                        format!("data:image/png;base64,{a}")
                    }
                })
            }),
            mode,
            title: field("title").filter(|_| group),
            description: field("description").filter(|_| group),
            message: field("note"),
            received_at: i64::try_from(request.received_ms).unwrap_or(0),
        }
    }

    /// The people this account knows, blocked ones included.
    pub async fn contacts(self: &Arc<Self>) -> Result<Vec<api::Contact>, AccountError> {
        let account = self.clone();
        Ok(self
            .book
            .ask(move |b| {
                b.contacts()
                    .iter()
                    .filter(|(_, c)| c.is_active() || c.is_blocked())
                    .map(|(id, _)| account.contact_view(b, *id))
                    .collect()
            })
            .await?)
    }

    /// One person.
    pub async fn contact(self: &Arc<Self>, id: AccountId) -> Result<api::Contact, AccountError> {
        let account = self.clone();
        let found = self
            .book
            .ask(move |b| {
                b.contacts()
                    .contains_key(&id)
                    .then(|| account.contact_view(b, id))
            })
            .await?;
        found.ok_or_else(|| {
            ApiError::not_found(format!("{id} is no contact of this account.")).into()
        })
    }

    /// Who asks.
    pub async fn requests(&self) -> Result<Vec<api::Request>, AccountError> {
        Ok(self
            .book
            .ask(|b| {
                b.requests()
                    .map(|r| Self::request_view(r, b.profile(&r.from)))
                    .collect()
            })
            .await?)
    }

    pub(super) async fn emit_contact(
        self: &Arc<Self>,
        id: AccountId,
        removed: bool,
    ) -> Result<(), AccountError> {
        let account = self.clone();
        let contact = self.book.ask(move |b| account.contact_view(b, id)).await?;
        self.emit(Event::ContactUpdated {
            account: self.id.clone(),
            contact: Box::new(contact),
            removed,
        });
        Ok(())
    }

    /// Follows a contact's record: who may connect.
    async fn refresh_trust(&self, id: AccountId) -> Result<(), AccountError> {
        let contact = self.book.ask(move |b| b.contact(&id)).await?;
        self.shared().trust.set_contact(&id, &contact);
        self.peers.policy_changed();
        Ok(())
    }

    // --- one's own doing ---

    /// Adds a person: makes the conversation, and asks them.
    pub async fn add_contact(
        self: &Arc<Self>,
        address: &str,
        greeting: Option<String>,
    ) -> Result<api::Contact, AccountError> {
        let id = AccountId::from_address(address)
            .map_err(|e| ApiError::invalid(format!("This is no Jami address: {e}.")))?;
        if id == self.jami_id() {
            return Err(ApiError::new(
                ErrorCode::Conflict,
                "This is your own address. Give it to others, and add theirs.",
            )
            .into());
        }
        if greeting.as_ref().is_some_and(|g| g.len() > MAX_GREETING) {
            return Err(ApiError::new(
                ErrorCode::TooLarge,
                format!("The greeting is longer than {MAX_GREETING} bytes."),
            )
            .into());
        }
        let (known, begun, theirs) = self
            .book
            .ask(move |b| {
                let contact = b.contact(&id);
                let known = contact.conversation.filter(|_| contact.is_active());
                (
                    // One that was left is gone.
                    known.filter(|c| b.conversation(c).is_some()),
                    // Made before, and interrupted before the contact was.
                    b.conversations()
                        .find(|c| c.mode == MODE_ONE_TO_ONE && c.members.contains(&id))
                        .map(|c| c.id),
                    b.requests()
                        .find(|r| r.from == id && r.mode() == MODE_ONE_TO_ONE)
                        .map(|r| r.conversation),
                )
            })
            .await?;
        // They asked already: adding them is accepting.
        if let Some(conversation) = theirs {
            self.accept_request(conversation).await?;
            return self.contact(id).await;
        }
        let conversation = match known.or(begun) {
            Some(c) => c,
            None => {
                self.new_conversation(
                    starling_core::swarm::message::ConversationMode::OneToOne,
                    Some(id),
                )
                .await?
                .id
            }
        };
        let own = self.jami_id();
        self.book
            .ask(move |b| -> Result<(), StateError> {
                let invited_ms = b.next_offer_ms(&id, now_ms());
                b.change_contact(id, |c| c.add(now_ms(), Some(conversation), false))?;
                if !b.contact(&id).confirmed {
                    // Asked again by a person: newer than what was declined.
                    b.set_outgoing(
                        &id,
                        Some(&Outgoing {
                            greeting,
                            invited_ms,
                        }),
                    )?;
                    let offered = Offered {
                        by: own,
                        at_ms: invited_ms,
                        newest_counts: true,
                    };
                    b.set_offered(conversation, offered)?;
                }
                Ok(())
            })
            .await??;
        self.refresh_trust(id).await?;
        self.watch(id);
        self.forget_asked(id, false);
        self.settle_crossing(id).await?;
        self.emit_contact(id, false).await?;
        self.wake.notify_one();
        self.contact(id).await
    }

    /// Removes a person and the conversation with them, or blocks them.
    pub async fn remove_contact(
        self: &Arc<Self>,
        id: AccountId,
        block: bool,
    ) -> Result<(), AccountError> {
        let (changed, conversation) = self
            .book
            .ask(move |b| -> Result<_, StateError> {
                let conversation = b.contact(&id).conversation;
                let changed = b.change_contact(id, |c| c.remove(now_ms(), block))?;
                b.set_outgoing(&id, None)?;
                b.owe_nothing(&id)?;
                let waiting: Vec<ConversationId> = b
                    .requests()
                    .filter(|r| r.from == id)
                    .map(|r| r.conversation)
                    .collect();
                for request in waiting {
                    b.decline(&request, now_ms())?;
                }
                Ok((changed, conversation))
            })
            .await??;
        if !changed {
            return Ok(());
        }
        self.refresh_trust(id).await?;
        self.peers.close_account(&id);
        if let Some(conversation) = conversation.filter(|_| !block) {
            self.forget_conversation(conversation).await?;
        }
        self.emit_contact(id, !block).await
    }

    /// Unblocks a person. Who was a contact when they were blocked is one again. Of who was none, or
    /// whose conversation is not here any more, only the block goes: to be a contact they have to ask, or be asked.
    pub async fn unblock(self: &Arc<Self>, id: AccountId) -> Result<(), AccountError> {
        let (blocked, there) = self
            .book
            .ask(move |b| {
                let contact = b.contact(&id);
                let there = contact.conversation.filter(|c| b.conversation(c).is_some());
                (contact.is_blocked(), there)
            })
            .await?;
        if !blocked {
            return Err(ApiError::not_found(format!("{id} is not blocked.")).into());
        }
        match there {
            // A block leaves the conversation with a contact known.
            Some(c) => {
                self.book
                    .ask(move |b| {
                        b.change_contact(id, |contact| contact.add(now_ms(), Some(c), false))
                    })
                    .await??;
                self.refresh_trust(id).await?;
                self.watch(id);
                self.emit_contact(id, false).await?;
                if let Some(conversation) = self.conversation(&c) {
                    self.confirm_members(&conversation).await?;
                }
            }
            None => {
                self.book
                    .ask(move |b| b.change_contact(id, |c| c.remove(now_ms(), false)))
                    .await??;
                self.refresh_trust(id).await?;
                self.emit_contact(id, true).await?;
            }
        }
        self.wake.notify_one();
        Ok(())
    }

    /// Accepts a request; the conversation is looked for at once.
    pub async fn accept_request(
        self: &Arc<Self>,
        conversation: ConversationId,
    ) -> Result<api::Conversation, AccountError> {
        let request = self
            .book
            .ask(move |b| b.request(&conversation).cloned())
            .await?;
        let request =
            request.ok_or_else(|| ApiError::not_found("There is no such request any more."))?;
        let from = request.from;
        let one_to_one = request.mode() == MODE_ONE_TO_ONE;
        if mode_of(request.mode()) == ConversationMode::Unknown {
            return Err(ApiError::unsupported("This invitation is to something that this bridge does not know: it was made by a newer program. Decline it, or accept it there.").into());
        }
        self.book
            .ask(move |b| -> Result<(), StateError> {
                let mut info = ConvInfo::new(conversation, request.mode(), now_ms());
                info.members.insert(from);
                let offered = b.local(&conversation).offered;
                b.set_local(
                    conversation,
                    Local {
                        metadata: request.metadata.clone(),
                        offered,
                        ..Local::default()
                    },
                )?;
                b.set_conversation(info)?;
                if one_to_one {
                    b.change_contact(from, |c| c.add(now_ms(), Some(conversation), true))?;
                    b.set_outgoing(&from, None)?;
                    b.owe(from, conversation)?;
                }
                b.take_request(&conversation)?;
                Ok(())
            })
            .await??;
        self.refresh_trust(from).await?;
        self.watch(from);
        self.emit(Event::RequestRemoved {
            account: self.id.clone(),
            conversation,
        });
        self.emit(Event::ConversationSyncing {
            account: self.id.clone(),
            conversation,
        });
        if one_to_one {
            self.emit_contact(from, false).await?;
            self.forget_asked(from, true);
        }
        self.wake.notify_one();
        self.start_clone(conversation);
        self.conversation_view(conversation).await
    }

    /// Declines a request; nothing is sent to who asked.
    pub async fn decline_request(
        self: &Arc<Self>,
        conversation: ConversationId,
        block: bool,
    ) -> Result<(), AccountError> {
        let declined = self
            .book
            .ask(move |b| b.decline(&conversation, now_ms()))
            .await??;
        let Some(request) = declined else {
            return Err(ApiError::not_found("There is no such request any more.").into());
        };
        self.emit(Event::RequestRemoved {
            account: self.id.clone(),
            conversation,
        });
        if block {
            let id = request.from;
            self.book
                .ask(move |b| b.change_contact(id, |c| c.remove(now_ms(), true)))
                .await??;
            self.refresh_trust(id).await?;
            self.peers.close_account(&id);
            self.emit_contact(id, false).await?;
        }
        Ok(())
    }

    // --- requests through the DHT ---

    /// What was sent to the devices of a person is to be sent to them again.
    pub(super) fn forget_asked(&self, id: AccountId, confirm: bool) {
        let mut shared = self.shared();
        let devices: Vec<DeviceId> = shared
            .reach
            .get(&id)
            .map(|r| r.announced.devices().copied().collect())
            .unwrap_or_default();
        shared
            .asked
            .retain(|(d, c)| *c != confirm || !devices.contains(d));
    }

    /// Sends requests that are not confirmed, and confirmations, to devices that did not get them
    /// since their owner came online.
    pub(super) async fn resend_requests(self: &Arc<Self>) -> Result<(), AccountError> {
        let open: Vec<(AccountId, ConversationId)> = self
            .book
            .ask(|b| {
                b.contacts()
                    .iter()
                    .filter(|(_, c)| c.is_active() && !c.confirmed)
                    .filter_map(|(id, c)| Some((*id, c.conversation?)))
                    .collect()
            })
            .await?;
        let owed = self.book.ask(|b| b.owed().clone()).await?;
        for (id, owed) in owed {
            if self.has_unasked(id, true) {
                self.send_to_devices(id, TrustRequest::confirmation(Some(owed.conversation)));
            }
        }
        for (id, conversation) in open {
            if self.has_unasked(id, false) {
                let outgoing = self
                    .book
                    .ask(move |b| b.outgoing(&id))
                    .await??
                    .unwrap_or_default();
                self.send_to_devices(id, self.request(conversation, &outgoing));
            }
        }
        Ok(())
    }

    /// A contact request of ours, with our card.
    fn request(&self, conversation: ConversationId, outgoing: &Outgoing) -> TrustRequest {
        let profile = self.shared().options.profile.clone();
        let mut card = VCard::new(&profile.display_name);
        if let Some(photo) = profile.avatar.as_deref().and_then(read_data_url) {
            card.set_photo(Some(&photo));
        }
        if let Some(words) = &outgoing.greeting {
            card.set(GREETING, &words.replace(['\r', '\n'], " "));
        }
        let mut payload = card.to_string().into_bytes();
        if payload.len() >= MAX_TRUST_PAYLOAD {
            card.set_photo(None);
            payload = card.to_string().into_bytes();
        }
        TrustRequest::invitation(conversation, &payload, outgoing.invited_ms)
    }

    /// Offers the conversation that we have with a contact once more.
    pub(super) fn ask_again(self: &Arc<Self>, id: AccountId, ours: Offer) {
        let outgoing = Outgoing {
            greeting: None,
            invited_ms: ours.offered_ms,
        };
        self.forget_asked(id, false);
        self.send_to_devices(id, self.request(ours.conversation, &outgoing));
    }

    /// Whether a device of a person lacks a request or confirmation of ours.
    fn has_unasked(&self, id: AccountId, confirm: bool) -> bool {
        let shared = self.shared();
        shared.reach.get(&id).is_some_and(|r| {
            r.announced
                .devices()
                .any(|d| !shared.asked.contains(&(*d, confirm)))
        })
    }

    /// Puts a request or a confirmation into the inbox of each device of a person that lacks it.
    fn send_to_devices(self: &Arc<Self>, id: AccountId, request: TrustRequest) {
        let devices: Vec<DeviceId> = {
            let shared = self.shared();
            shared
                .reach
                .get(&id)
                .map(|r| r.announced.devices().copied().collect())
                .unwrap_or_default()
        };
        for device in devices {
            let mark = (device, request.confirm);
            if !self.shared().asked.insert(mark) {
                continue;
            }
            let account = self.clone();
            let request = request.clone();
            self.spawn(async move {
                match account.send_to_device(id, device, &request).await {
                    Ok(()) if request.confirm => {
                        let kept = account
                            .book
                            .ask(move |b| b.confirmation_sent(id, now_ms()))
                            .await;
                        if let Ok(Err(e)) = kept {
                            tracing::warn!(%e, "that a request was answered could not be kept");
                        }
                    }
                    Ok(()) => {}
                    Err(why) => {
                        tracing::debug!(%device, why, "a request was not sent");
                        tokio::time::sleep(SEND_AGAIN).await;
                        account.shared().asked.remove(&mark);
                        account.wake.notify_one();
                    }
                }
            });
        }
    }

    async fn send_to_device(
        &self,
        id: AccountId,
        device: DeviceId,
        request: &TrustRequest,
    ) -> Result<(), String> {
        self.put_in_inbox(id, device, types::TRUST_REQUEST, request.encode())
            .await
    }

    /// A device asks, or confirms.
    pub(super) async fn asked_by(
        self: &Arc<Self>,
        device: DeviceId,
        request: TrustRequest,
    ) -> Result<(), AccountError> {
        let chain = self
            .peers
            .certificate(device, None)
            .await
            .map_err(|e| ApiError::not_found(e.to_string()))?;
        let from = chain.account_id();
        let own = self.jami_id();
        let strangers = self.shared().options.settings.allow_strangers;
        let decided = {
            let request = request.clone();
            self.book
                .ask(move |b| {
                    receive_trust_request(
                        &own,
                        &from,
                        &request,
                        Some(&b.contact(&from)),
                        None,
                        now_ms(),
                    )
                })
                .await?
        };
        match decided {
            Received::Dropped | Received::Unasked | Received::Repeated => Ok(()),
            Received::FromContact {
                newly_confirmed,
                answer,
                accepted,
                other_conversation,
            } => {
                if newly_confirmed {
                    self.accepted_by(from).await?;
                }
                self.learn_name(from, &request).await?;
                tracing::debug!(%from, accepted, answer, ?other_conversation, "a contact asked or confirmed");
                if let Some(conversation) = request.conversation.filter(|_| answer) {
                    let theirs = Offer {
                        conversation,
                        offered_ms: request.invited_ms,
                    };
                    self.offered(from, theirs, request.newest_counts).await?;
                }
                self.wake.notify_one();
                Ok(())
            }
            Received::Pending => {
                let Some(conversation) = request.conversation else {
                    return Ok(());
                };
                if !strangers {
                    return Ok(());
                }
                // What they say of themselves is kept if they are shown: anybody can make an account.
                let card = VCard::parse(&request.payload).ok();
                let mut metadata =
                    BTreeMap::from([("mode".to_owned(), MODE_ONE_TO_ONE.to_string())]);
                let mut said = None;
                if let Some(card) = &card {
                    let who = profile(card);
                    metadata.insert("title".into(), who.display_name.clone());
                    if let Some(words) = card.get(GREETING) {
                        metadata.insert("note".into(), clean(words));
                    }
                    said = Some(who);
                }
                let asked = ConversationRequest {
                    from,
                    conversation,
                    metadata,
                    received_ms: request.invited_ms,
                    declined_ms: 0,
                };
                self.take_request(asked, request.newest_counts, said).await
            }
        }
    }

    /// A contact has accepted us: noted, and shown if it is news.
    async fn accepted_by(self: &Arc<Self>, id: AccountId) -> Result<(), AccountError> {
        if self.book.ask(move |b| b.confirm(id)).await?? {
            self.emit_contact(id, false).await?;
        }
        Ok(())
    }

    /// Who is a member of the conversation with us has accepted us, whether or not their
    /// confirmation came through.
    pub(super) async fn confirm_members(
        self: &Arc<Self>,
        conversation: &crate::conversation::Conversation,
    ) -> Result<(), AccountError> {
        let (id, snapshot, own) = (conversation.id, conversation.snapshot(), self.jami_id());
        if snapshot.mode.number() != MODE_ONE_TO_ONE {
            return Ok(());
        }
        let others = snapshot
            .members
            .iter()
            .map(|m| m.id)
            .filter(|m| *m != own && snapshot.takes_part(m));
        for other in others {
            let news = self
                .book
                .ask(move |b| -> Result<bool, StateError> {
                    Ok(b.contact(&other).conversation == Some(id) && b.confirm(other)?)
                })
                .await??;
            if news {
                self.emit_contact(other, false).await?;
            }
        }
        Ok(())
    }

    /// An invitation to a group came over a link.
    pub(super) async fn invited(
        self: &Arc<Self>,
        from: AccountId,
        conversation: ConversationId,
        metadata: BTreeMap<String, String>,
        received_ms: u64,
    ) -> Result<(), AccountError> {
        let stranger = self.shared().trust.status(&from.0) != TrustStatus::Allowed;
        if stranger && !self.shared().options.settings.allow_strangers {
            tracing::debug!(%from, "a stranger's invitation is passed over");
            return Ok(());
        }
        self.meant_after_all(conversation).await?;
        let metadata = metadata
            .into_iter()
            .filter(|(key, value)| {
                let longest = match key.as_str() {
                    "mode" => 8,
                    "title" | "description" => MAX_GREETING,
                    "avatar" => MAX_TRUST_PAYLOAD,
                    _ => 0,
                };
                value.len() <= longest
            })
            .collect();
        let invited = ConversationRequest {
            from,
            conversation,
            metadata,
            received_ms,
            declined_ms: 0,
        };
        self.take_request(invited, false, None).await
    }

    /// `said`: what the sender says of themselves.
    async fn take_request(
        self: &Arc<Self>,
        request: ConversationRequest,
        newest_counts: bool,
        said: Option<Profile>,
    ) -> Result<(), AccountError> {
        let (id, from) = (request.conversation, request.from);
        let theirs = Offer {
            conversation: id,
            offered_ms: request.received_ms,
        };
        match self
            .book
            .ask(move |b| -> Result<_, StateError> {
                let incoming = b.incoming(request, newest_counts, now_ms())?;
                if let Some(who) = said.filter(|_| !matches!(incoming, Incoming::Ignore(_))) {
                    b.set_profile(from, who)?;
                }
                Ok(incoming)
            })
            .await??
        {
            Incoming::Ignore(why) => {
                tracing::debug!(conversation = %id, why, "a request is passed over");
                Ok(())
            }
            Incoming::Contact => {
                self.accepted_by(from).await?;
                self.offered(from, theirs, newest_counts).await
            }
            Incoming::Show { request, replaces } => {
                for conversation in replaces {
                    self.emit(Event::RequestRemoved {
                        account: self.id.clone(),
                        conversation,
                    });
                }
                let view = self
                    .book
                    .ask(move |b| Self::request_view(&request, b.profile(&request.from)))
                    .await?;
                if view.mode == ConversationMode::OneToOne {
                    self.emit(Event::ContactRequest {
                        account: self.id.clone(),
                        request: Box::new(view.clone()),
                    });
                }
                self.emit(Event::RequestReceived {
                    account: self.id.clone(),
                    request: Box::new(view),
                });
                Ok(())
            }
        }
    }

    /// Who asks while they are a contact already says who they are as well. It may be long ago: what
    /// they said since counts more.
    async fn learn_name(
        self: &Arc<Self>,
        id: AccountId,
        request: &TrustRequest,
    ) -> Result<(), AccountError> {
        let known = self.book.ask(move |b| b.profile(&id)).await?;
        if known.display_name.is_empty()
            && let Ok(card) = VCard::parse(&request.payload)
            && !card.display_name().is_empty()
        {
            self.learn_profile(id, profile(&card)).await?;
        }
        Ok(())
    }

    /// A person says something new of themselves.
    pub(super) async fn learn_profile(
        self: &Arc<Self>,
        id: AccountId,
        profile: Profile,
    ) -> Result<(), AccountError> {
        if !self.book.ask(move |b| b.set_profile(id, profile)).await?? {
            return Ok(());
        }
        if self
            .book
            .ask(move |b| b.contacts().contains_key(&id))
            .await?
        {
            self.emit_contact(id, false).await?;
        }
        for conversation in self.conversations() {
            if conversation.snapshot().role(&id).is_some() {
                self.show_updated(&conversation).await;
            }
        }
        Ok(())
    }

    /// The invitation of a member, as it is sent: the same each time until they are invited anew.
    pub(super) async fn invitation(
        &self,
        conversation: &crate::conversation::Conversation,
        member: AccountId,
    ) -> Result<Notice, AccountError> {
        let (id, snapshot) = (conversation.id, conversation.snapshot());
        let made = self
            .book
            .ask(move |b| {
                let invited = b
                    .conversation(&id)
                    .and_then(|c| c.invited.get(&member).copied());
                invited.or_else(|| b.local(&id).offered.map(|o| o.at_ms))
            })
            .await?;
        let profile = &snapshot.profile;
        let mut metadata =
            BTreeMap::from([("mode".to_owned(), snapshot.mode.number().to_string())]);
        for (key, value) in [
            ("title", &profile.title),
            ("description", &profile.description),
            ("avatar", &profile.avatar),
        ] {
            // The reference leaves out values that are too large for its carriers.
            if let Some(value) = value
                .as_ref()
                .filter(|v| !v.is_empty() && v.len() < MAX_TRUST_PAYLOAD)
            {
                metadata.insert(key.to_owned(), value.clone());
            }
        }
        Ok(Notice::Invite {
            conversation: id,
            metadata,
            received_ms: made.unwrap_or_else(now_ms),
        })
    }
}
