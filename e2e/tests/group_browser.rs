//! A group as people live in it: made in a page, talked in, one of its people banned and let back in, and left by who led it.

use serde_json::{Value, json};
use starling_e2e::{Browser, Jami, Lab, Starling, browser, jami, needs, wait};

/// Waits until a bubble says exactly this.
async fn bubble(page: &Browser, text: &str) {
    let script = format!(
        "return [...document.querySelectorAll('[data-testid=message] [data-testid=bubble]')].some(e => e.innerText.trim() === {})",
        json!(text)
    );
    page.until(&format!("the bubble {text:?}"), &script).await;
}

/// Waits until no bubble says this any more.
async fn no_bubble(page: &Browser, text: &str) {
    let script = format!(
        "return ![...document.querySelectorAll('[data-testid=message] [data-testid=bubble]')].some(e => e.innerText.trim() === {})",
        json!(text)
    );
    page.until(&format!("the bubble {text:?} to go"), &script)
        .await;
}

/// Puts the focus on the message that says this, as arrow keys do.
async fn focus(page: &Browser, text: &str) {
    let script = format!(
        "const e = [...document.querySelectorAll('[data-testid=message]')].find(e => e.querySelector('[data-testid=bubble]')?.innerText.trim() === {}); e?.focus(); return !!e",
        json!(text)
    );
    page.until(&format!("the message {text:?}"), &script).await;
}

/// Opens the details of a member whose name has this in it.
async fn open_member(page: &Browser, name: &str) {
    page.until(
        &format!("{name} among the members"),
        &format!(
            "const e = [...document.querySelectorAll('[data-testid=member] .member')].find(e => e.innerText.includes({}) && e.checkVisibility()); if (e && e.getAttribute('aria-expanded') === 'false') e.click(); return !!e",
            json!(name)
        ),
    )
    .await;
}

/// Puts the focus on a button, as the Tab key does in the end, and presses Enter there.
async fn enter(page: &Browser, name: &str) {
    let button = page.named("button", name).await;
    button
        .send_keys("\u{e007}")
        .await
        .unwrap_or_else(|e| panic!("cannot press Enter on {name:?}: {e}"));
}

/// Waits until somebody is in no list of a group any more.
fn gone(who: &Starling, group: &str, id: &str) {
    wait::until(&format!("{id} to be gone"), || {
        let members = who.rpc(
            "conversation.members",
            json!({"account": who.account(), "conversation": group}),
        );
        let members = members.as_array()?;
        (!members.iter().any(|m| m["id"] == id)).then_some(())
    });
}

/// Waits until no question is open.
async fn no_dialog(page: &Browser) {
    page.until(
        "the question to close",
        "return !document.querySelector('dialog[open]')",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_group_is_made_grows_bans_lets_back_in_and_is_left() {
    needs!(browser::missing());
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let hosts = ["alice", "bob", "cat", "dora"].map(|name| lab.host(name));
    let [mut alice, mut bob, mut cat, mut dora] = Starling::each(&hosts, &boot);
    let alice_id = alice.have_account("Alice");
    let bob_id = bob.have_account("Bob");
    let cat_id = cat.have_account("Cat");
    let dora_id = dora.have_account("Dora");
    let alices = Browser::open(&mut lab, &hosts[0]).await;
    let bobs = Browser::open(&mut lab, &hosts[1]).await;
    alices.go(alice.url()).await;
    bobs.go(bob.url()).await;

    // They know each other.
    for (friend, id) in [(&bob, &bob_id), (&cat, &cat_id), (&dora, &dora_id)] {
        let two = alice.add_contact(id);
        friend.wait_request_for(&two);
        friend.accept(&two);
        alice.wait_role(&two, id, "member");
    }

    // Alice makes a group by keyboard: people by name, a picture, a title.
    alices.press("button", "New group").await;
    alices.fill("Name of the group", "Bird watchers").await;
    alices
        .give_picture(
            "[data-testid=photo-file]",
            ["#7fb2c9", "#c9b37f", "#f4e9c8"],
        )
        .await;
    alices.find(".photo img").await;
    alices.fill("Who is invited", "bo\n").await;
    alices.named("button", "Take Bob out").await;
    alices.fill("Who is invited", "cat\n").await;
    alices.press("button", "Make the group").await;
    alices.named("textbox", "Message to Bird watchers").await;

    bobs.named("article", "Request from Alice").await;
    bobs.press("button", "Accept").await;
    bobs.named("textbox", "Message to Bird watchers").await;
    let list = alice.rpc("conversation.list", json!({"account": alice.account()}));
    let list = list.as_array().expect("a list");
    let group = list
        .iter()
        .find(|c| c["title"] == "Bird watchers")
        .expect("the group");
    let group = group["id"].as_str().expect("an id").to_owned();
    cat.wait_request_for(&group);
    cat.accept(&group);
    alices.wait_text("Bob and Cat joined").await;
    // The picture came along, made small.
    bobs.find(".conversation-pane .pane-head .avatar img").await;
    let picture = cat.rpc(
        "conversation.get",
        json!({"account": cat.account(), "conversation": group}),
    );
    let picture = picture["avatar"].as_str().unwrap_or_default().to_owned();
    assert!(
        picture.starts_with("data:image/jpeg;base64,") && picture.len() < 40_000,
        "{} bytes: {:.40}",
        picture.len(),
        picture
    );

    // Words, and second thoughts.
    bobs.fill("Message to Bird watchers", "helo evrybody\n")
        .await;
    bubble(&alices, "helo evrybody").await;
    bobs.find("[data-testid=composer]").await;
    bobs.key("ArrowUp").await;
    bobs.wait_text("Editing your message").await;
    bobs.run("document.querySelector('#composer').select()")
        .await;
    bobs.fill("Message to Bird watchers", "Hello everybody\n")
        .await;
    bubble(&alices, "Hello everybody").await;
    alices.wait_text("edited").await;

    focus(&alices, "Hello everybody").await;
    alices.key("Enter").await;
    alices.press("button", "React with 👍").await;
    bobs.named("button", "👍 by Alice").await;
    alices.press("button", "👍 by You").await;
    bobs.until(
        "the reaction to go",
        "return !document.querySelector('[data-testid=reaction]')",
    )
    .await;

    bobs.fill("Message to Bird watchers", "Not for here\n")
        .await;
    bubble(&alices, "Not for here").await;
    focus(&bobs, "Not for here").await;
    bobs.key("Delete").await;
    bobs.wait_text("This message will be deleted").await;
    bobs.press("button", "Undo").await;
    bubble(&bobs, "Not for here").await;
    focus(&bobs, "Not for here").await;
    bobs.key("Delete").await;
    no_bubble(&alices, "Not for here").await;
    alices.wait_text("This message was deleted.").await;

    // Alice invites Dora from the details, by keyboard.
    alices.press("button", "Details").await;
    alices.named("button", "Invite someone").await;
    enter(&alices, "Invite someone").await;
    alices.named("heading", "Invite someone").await;
    alices.fill("Who is invited", "dor\n").await;
    alices.named("button", "Take Dora out").await;
    alices.fill("Who is invited", "\n").await;
    alices.wait_text("You invited Dora").await;
    no_dialog(&alices).await;
    // Bob has never heard of her.
    let (first, last) = (&dora_id[..6], &dora_id[36..]);
    bobs.wait_text(&format!("Alice invited {first}…{last}"))
        .await;
    dora.wait_request_for(&group);
    dora.accept(&group);
    alices.wait_text("Dora joined").await;
    bobs.wait_text("Alice invited Dora").await;
    cat.wait_role(&group, &dora_id, "member");
    dora.wait_text_or_history(&group, "Hello everybody");
    dora.send(&group, "Nice to be here");
    for page in [&alices, &bobs] {
        bubble(page, "Nice to be here").await;
    }

    // Alice bans Bob. She is the only admin, so she is told that it happens at once.
    open_member(&alices, "Bob").await;
    alices.press("button", "Ban…").await;
    alices.named("heading", "Ban Bob?").await;
    alices.wait_text("You decide alone here").await;
    alices.press("button", "Ban Bob").await;
    alices.wait_text("Bob was banned").await;
    for friend in [&cat, &dora] {
        friend.wait_role(&group, &bob_id, "banned");
    }
    alices
        .fill("Message to Bird watchers", "Now we are three\n")
        .await;
    cat.wait_text_or_history(&group, "Now we are three");

    // Bob's page says what happened, and has nothing to write with.
    bobs.wait_text("The admins banned you from this group")
        .await;
    bobs.wait_text("You were banned").await;
    let composer = bobs
        .run("return !!document.querySelector('#composer')")
        .await;
    assert_eq!(composer, false);
    assert!(!bobs.text().await.contains("Now we are three"));

    // She lets him back in. He reads what he missed, and all read him.
    alices.find("details.gone-people").await;
    alices
        .run("document.querySelector('details.gone-people').open = true")
        .await;
    open_member(&alices, "Bob").await;
    alices.press("button", "Let back in…").await;
    alices.named("heading", "Let Bob back in?").await;
    alices.wait_text("Bob can then come back").await;
    alices.press("button", "Let Bob back in").await;
    alices.wait_text("Bob was let back in").await;
    no_dialog(&alices).await;
    alices
        .until(
            "nobody to be banned or gone",
            "return !document.querySelector('details.gone-people')",
        )
        .await;
    bobs.wait_text("You were let back in").await;
    bubble(&bobs, "Now we are three").await;
    bobs.fill("Message to Bird watchers", "Four of us\n").await;
    bubble(&alices, "Four of us").await;
    for friend in [&cat, &dora] {
        friend.wait_role(&group, &bob_id, "member");
        friend.wait_text_or_history(&group, "Four of us");
    }

    // For good, this time.
    alice.rpc(
        "conversation.ban",
        json!({"account": alice.account(), "conversation": group, "id": bob_id}),
    );
    bobs.wait_text("The admins banned you from this group")
        .await;

    // The list keeps it until Bob does not want it any more.
    bobs.press("button", "Delete from this computer…").await;
    bobs.named("heading", "Delete this conversation?").await;
    bobs.find("dialog .button.danger").await;
    bobs.click("dialog .button.danger").await;
    bobs.named("heading", "Pick a conversation").await;

    // Alice leaves by keyboard, and is told what that means for a group whose only admin she is.
    alices.named("button", "Leave the group…").await;
    enter(&alices, "Leave the group…").await;
    alices.named("heading", "Leave this group?").await;
    alices.wait_text("You are its only admin").await;
    enter(&alices, "Leave the group").await;
    alices.named("heading", "Pick a conversation").await;
    let list = alices.texts("[data-testid=conversation]").await;
    assert!(
        !list.is_empty() && !list.iter().any(|c| c.contains("Bird watchers")),
        "{list:?}"
    );
    // The others see her go, and go on without an admin.
    for (friend, text) in [(&cat, "Just we two"), (&dora, "And a ban")] {
        gone(friend, &group, &alice_id);
        friend.wait_role(&group, &bob_id, "banned");
        friend.send(&group, text);
    }
    cat.wait_text_or_history(&group, "And a ban");
    dora.wait_text_or_history(&group, "Just we two");
    let refused = cat.try_rpc(
        "conversation.ban",
        json!({"account": cat.account(), "conversation": group, "id": dora_id}),
    );
    let why = refused.expect_err("nobody leads the group");
    assert!(why.contains("not_authorised"), "{why}");

    for page in [&alices, &bobs] {
        assert_eq!(page.complaints().await, Vec::<String>::new());
    }
    assert_eq!(alice.rejections(), Vec::<Value>::new());
    assert_eq!(cat.rejections(), Vec::<Value>::new());
    assert_eq!(dora.rejections(), Vec::<Value>::new());
    alices.close().await;
    bobs.close().await;
    for one in [&mut alice, &mut bob, &mut cat, &mut dora] {
        one.down();
    }
}

/// Where only admins invite, the daemon lets every member. What it lets in is refused here, and both the page that has
/// the group and the page that is invited into it say so.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_history_against_the_rules_is_explained() {
    needs!(browser::missing());
    needs!(jami::missing());
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let hosts = ["alice", "cat", "dora"].map(|name| lab.host(name));
    let mut alice = Starling::start(&hosts[0], &boot);
    let mut cat = Starling::start(&hosts[1], &boot);
    let mut dora = Jami::with_account(&hosts[2], &boot, "Dora");
    alice.have_account("Alice Martin");
    let cat_id = cat.have_account("Cat Delacroix");
    let dora_id = dora.id();
    let page = Browser::open(&mut lab, &hosts[0]).await;
    page.go(alice.url()).await;
    let cats = Browser::open(&mut lab, &hosts[1]).await;
    cats.go(cat.url()).await;

    let two = alice.add_contact(&dora_id);
    dora.wait_request_for(&two);
    dora.accept(&two);
    alice.wait_role(&two, &dora_id, "member");
    let theirs = cat.add_contact(&dora_id);
    dora.wait_request_for(&theirs);
    dora.accept(&theirs);
    cat.wait_role(&theirs, &dora_id, "member");

    let group = alice.rpc(
        "conversation.create",
        json!({"account": alice.account(), "mode": "adminInvitesOnly", "title": "Allotment committee", "members": [dora_id]}),
    );
    let group = group["id"].as_str().expect("an id").to_owned();
    dora.wait_request_for(&group);
    dora.accept(&group);
    alice.wait_role(&group, &dora_id, "member");
    alice.send(&group, "Who waters the beans this week?");
    dora.wait_text(&group, "Who waters the beans this week?");
    page.run(&format!("location.hash = '#/c/{group}'")).await;
    bubble(&page, "Who waters the beans this week?").await;

    // Dora's daemon lets her invite, and offers that to Alice.
    dora.add_member(&group, &cat_id);
    page.wait_text("Starling refused part of this history.")
        .await;
    page.press("button", "Why?").await;
    page.find("[data-testid=refusal]").await;
    page.wait_text("here only admins may invite").await;
    page.run("document.querySelector('[data-testid=refusal] details').open = true")
        .await;
    page.wait_text("InviteByNonAdmin").await;
    page.shoot("43-refused").await;

    // Cat is invited, accepts, and is told why there is nothing to see.
    cat.wait_request_for(&group);
    cats.find("[data-testid=request]").await;
    cats.press("button", "Accept").await;
    cats.wait_text("The history that was offered cannot be used")
        .await;
    cats.press("button", "Why?").await;
    cats.find("[data-testid=refusal]").await;
    cats.shoot("44-refused-nothing").await;
    // Nothing else is complained about.
    assert_eq!(cats.texts(".notices .note").await, Vec::<String>::new());

    // Alice goes on without it.
    page.press("button", "Go on without it").await;
    page.until(
        "the refusal to be put away",
        "return !document.querySelector('[data-testid=refusal]')",
    )
    .await;
    page.fill("Message to Allotment committee", "I do, then\n")
        .await;
    bubble(&page, "I do, then").await;
    for browser in [&page, &cats] {
        assert_eq!(browser.complaints().await, Vec::<String>::new());
    }
    page.close().await;
    cats.close().await;
}
