//! Pictures of every view, for people to look at: `target/screenshots/*.png`.

use serde_json::json;
use starling_e2e::browser::{DESKTOP, PHONE};
use starling_e2e::{Browser, Lab, Starling, browser, jami, needs};

/// With more contrast, as the person's system may ask for.
async fn shoot_contrast(page: &Browser, name: &str) {
    for look in ["light", "dark"] {
        page.screen(
            DESKTOP.0,
            DESKTOP.1,
            &[("prefers-color-scheme", look), ("prefers-contrast", "more")],
        )
        .await;
        page.painted().await;
        page.shot(&format!("{name}-contrast-{look}")).await;
    }
    page.screen(DESKTOP.0, DESKTOP.1, &[]).await;
}

/// A time zone where this minute of the day in UTC is midnight.
fn where_it_is_midnight(minute: i64) -> String {
    // Time zones reach from 12 hours behind to 14 ahead.
    let ahead = if minute <= 12 * 60 {
        -minute
    } else {
        24 * 60 - minute
    };
    let sign = if ahead < 0 { '-' } else { '+' };
    format!("GMT{sign}{:02}:{:02}", ahead.abs() / 60, ahead.abs() % 60)
}

/// Waits until a bubble says exactly this.
async fn bubble(page: &Browser, text: &str) {
    let script = format!(
        "return [...document.querySelectorAll('[data-testid=message] [data-testid=bubble]')].some(e => e.innerText.trim().endsWith({}))",
        json!(text)
    );
    page.until(&format!("the bubble {text:?}"), &script).await;
}

/// The page in Arabic, or again in English.
async fn in_arabic(page: &Browser, arabic: bool) {
    page.run(match arabic {
        true => "localStorage.setItem('starling.language', 'ar')",
        false => "localStorage.removeItem('starling.language')",
    })
    .await;
    page.reload().await;
}

/// Every message that is shown was checked by the page.
async fn checked(page: &Browser) {
    page.until(
        "every message to be checked",
        "return [...document.querySelectorAll('[data-testid=message] [data-testid=proof]')].every(e => e.classList.contains('verified'))",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn screenshots_of_every_view() {
    needs!(browser::missing());
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let (here, there) = (lab.host("alice"), lab.host("bob"));
    let (far, away) = (lab.host("cat"), lab.host("denys"));
    let mut alice = Starling::start(&here, &boot);
    let mut bob = Starling::start(&there, &boot);
    let mut cat = Starling::start(&far, &boot);
    let mut denys = Starling::start(&away, &boot);
    bob.have_account("Bob Okonkwo");
    let cat_id = cat.have_account("Catherine Delacroix-Featherstonehaugh");
    let denys_id = denys.have_account("Денис Шевченко");
    let page = Browser::open(&mut lab, &here).await;

    // Without the code.
    page.go("http://127.0.0.1:7474/").await;
    page.named("heading", "Pair this browser").await;
    page.shoot("01-unpaired").await;
    page.go("about:blank").await;

    // The first minute.
    page.go(alice.url()).await;
    page.named("heading", "Welcome to Starling").await;
    page.shoot("02-first-run").await;
    in_arabic(&page, true).await;
    page.find("#first-name").await;
    page.shoot("02-first-run-arabic").await;
    in_arabic(&page, false).await;
    page.press("button", "I have a backup of an account").await;
    page.named("heading", "Restore from a backup").await;
    page.shoot("03-first-run-backup").await;
    page.press("button", "Back").await;
    page.fill("Your name", "Alice Martin").await;
    page.wait_text("keys").await;
    page.shoot("04-first-run-typed").await;
    page.press("button", "Continue").await;
    page.named("heading", "This is your address").await;
    page.shoot("05-address").await;
    page.press("button", "Later").await;
    page.named("heading", "Nobody here yet").await;
    page.shoot("06-empty").await;
    let alice_id = alice.adopt_account();

    // Adding someone, and what can go wrong.
    page.press("button", "Add someone").await;
    page.shoot("07-add").await;
    page.fill("Their address", "alice@example.org").await;
    page.press("button", "Send request").await;
    page.wait_text("This is not an address").await;
    page.shoot("08-add-wrong").await;
    page.press("button", "Close").await;
    page.press("button", "Show my address").await;
    page.shoot("09-own-address").await;
    page.press("button", "Close").await;

    // Someone asks.
    let asked = bob.rpc(
        "contact.add",
        json!({"account": bob.account(), "id": alice_id, "message": "Hello Alice, it is Bob from the bird watchers. I got your address from Carol."}),
    );
    let conversation = asked["conversation"]
        .as_str()
        .expect("a conversation")
        .to_owned();
    page.named("article", "Request from Bob Okonkwo").await;
    page.shoot("10-request").await;
    in_arabic(&page, true).await;
    page.find("[data-testid=request]").await;
    page.shoot("10-request-arabic").await;
    in_arabic(&page, false).await;
    page.press("button", "Block").await;
    page.wait_text("Bob Okonkwo will be blocked").await;
    page.shot("10-request-blocking-desktop-light").await;
    page.press("button", "Undo").await;
    page.press("button", "Accept").await;
    page.named("textbox", "Message to Bob Okonkwo").await;
    page.wait_text("You accepted").await;
    page.find("[data-testid=backup-card]").await;
    page.shoot("11-conversation-new").await;
    page.run("location.hash = '#/'").await;
    page.named("heading", "Keep a backup").await;
    page.shoot("11-backup").await;
    page.press("button", "Later").await;
    page.run(&format!("location.hash = '#/c/{conversation}'"))
        .await;

    // A conversation as people have them.
    bob.wait_role(&conversation, &alice_id, "member");
    let say = async |text: &str| {
        page.fill("Message to Bob Okonkwo", &format!("{text}\n"))
            .await;
        bubble(&page, text).await;
    };
    say("Hi Bob! Yes, I remember.").await;
    say("Are you coming on Saturday?").await;
    bob.send(&conversation, "Of course.");
    let long = "The starlings gather at dusk above the old gasworks; last year there were so many that the sky went dark for a minute. If we meet at the bridge at half past six there is time to walk over. Bring something warm to wear: it gets cold quickly once the sun is gone.";
    bob.send(&conversation, long);
    bob.send(
        &conversation,
        "The way: https://www.openstreetmap.org/#map=17/51.50072/-0.12461",
    );
    bob.send(&conversation, "نلتقي عند الجسر في السادسة والنصف");
    bubble(&page, "نلتقي عند الجسر في السادسة والنصف").await;
    let bridge = page.run("return [...document.querySelectorAll('[data-testid=message]')].find(e => e.innerText.includes('gasworks')).id.slice(2)").await;
    say("🎉").await;
    alice.rpc("message.send", json!({"account": alice.account(), "conversation": conversation, "body": "I bring tea. `two` flasks", "replyTo": bridge}));
    bubble(&page, "I bring tea. two flasks").await;
    checked(&page).await;
    // What the other thinks of it, and second thoughts.
    let said = |text: &str| {
        let text = text.to_owned();
        let page = &page;
        async move {
            let id = page.run(&format!("return [...document.querySelectorAll('[data-testid=message]')].find(e => e.innerText.includes({})).id.slice(2)", json!(text))).await;
            id.as_str().unwrap_or_default().to_owned()
        }
    };
    let at = json!({"account": bob.account(), "conversation": conversation});
    let with = |more: serde_json::Value| {
        let mut all = at.clone();
        if let (Some(all), Some(more)) = (all.as_object_mut(), more.as_object()) {
            all.extend(more.clone());
        }
        all
    };
    let remember = said("Yes, I remember").await;
    bob.rpc(
        "message.react",
        with(json!({"id": remember, "emoji": "👍"})),
    );
    let gasworks = said("old gasworks").await;
    let mine = json!({"account": alice.account(), "conversation": conversation, "id": gasworks, "emoji": "❤️"});
    alice.rpc("message.react", mine);
    bob.rpc(
        "message.react",
        with(json!({"id": gasworks, "emoji": "❤️"})),
    );
    let course = said("Of course.").await;
    bob.rpc(
        "message.edit",
        with(json!({"id": course, "body": "Of course!"})),
    );
    let slip = bob.send(&conversation, "Wrong window");
    bubble(&page, "Wrong window").await;
    bob.rpc("message.delete", with(json!({"id": slip})));
    page.wait_text("This message was deleted.").await;
    checked(&page).await;
    page.shoot("12-conversation").await;
    shoot_contrast(&page, "12-conversation").await;

    // The proof of a message.
    page.press("button", "Show the proof: Checked by this page")
        .await;
    page.wait_text("This page checked the signature, the device and the rules")
        .await;
    page.shoot("13-proof").await;
    shoot_contrast(&page, "13-proof").await;
    page.press("button", "Details").await;
    page.find("[data-testid=member]").await;
    page.shoot("14-details").await;
    page.run("document.querySelectorAll('[data-testid=member] .member')[0].click()")
        .await;
    page.shoot("15-details-person").await;
    page.press("button", "Delete this conversation…").await;
    page.named("heading", "Delete the conversation with Bob Okonkwo?")
        .await;
    page.shoot("15-delete-conversation").await;
    page.press("button", "Cancel").await;

    // What one can do with a message: at hand, in its panel, by keyboard.
    page.press("button", "Close").await;
    page.hover(&format!("#m-{gasworks} .bubble")).await;
    page.painted().await;
    page.shot("35-hover-desktop-light").await;
    for (device, (width, height)) in [("desktop", DESKTOP), ("phone", PHONE)] {
        for look in ["light", "dark"] {
            page.screen(width, height, &[("prefers-color-scheme", look)])
                .await;
            page.painted().await;
            page.run(&format!(
                "const e = document.getElementById('m-{gasworks}'); e.scrollIntoView({{block: 'start'}}); e.focus()"
            ))
            .await;
            page.key("Enter").await;
            page.find("[data-testid=menu]").await;
            page.painted().await;
            page.shot(&format!("35-menu-{device}-{look}")).await;
            page.press("button", "More emoji").await;
            page.painted().await;
            page.shot(&format!("36-emoji-{device}-{look}")).await;
            page.key("Escape").await;
            page.until(
                "the panel to close",
                "return !document.querySelector('[data-testid=menu]')",
            )
            .await;
        }
    }
    page.screen(DESKTOP.0, DESKTOP.1, &[]).await;
    page.run(&format!("document.getElementById('m-{gasworks}').focus()"))
        .await;
    page.key("r").await;
    page.wait_text("Reply to Bob Okonkwo").await;
    page.shoot("37-reply").await;
    page.key("Escape").await;
    page.run("document.querySelector('#composer').focus()")
        .await;
    page.key("ArrowUp").await;
    page.wait_text("Editing your message").await;
    page.shoot("37-edit").await;
    page.key("Escape").await;
    page.run(&format!(
        "document.getElementById('m-{}').focus()",
        said("Are you coming").await
    ))
    .await;
    page.key("Delete").await;
    page.wait_text("This message will be deleted").await;
    page.shot("37-deleting-desktop-light").await;
    page.press("button", "Undo").await;
    bubble(&page, "Are you coming on Saturday?").await;

    // Words of every kind, and somebody who types.
    bob.send(&conversation, "我们六点半在桥上见，然后一起走过去。");
    bob.send(
        &conversation,
        "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
    );
    bob.send(&conversation, "```\nfor bird in flock:\n    watch(bird)  # from the bridge, until it is dark, and not a minute longer\n```");
    page.wait_text("until it is dark").await;
    bob.rpc("message.setTyping", with(json!({"typing": true})));
    page.wait_text("Bob Okonkwo is typing").await;
    page.shoot("38-words").await;
    // Who reads further up is not torn away by what comes.
    page.run("document.querySelector('[data-testid=history]').scrollTo(0, 0)")
        .await;
    page.named("button", "Latest").await;
    bob.send(&conversation, "One more thing");
    page.named("button", "1 new message").await;
    page.shot("38-below-desktop-light").await;
    page.press("button", "1 new message").await;

    // Searching here.
    page.key("Ctrl+f").await;
    page.fill("Words in this conversation", "the").await;
    page.find("[data-testid=hit]").await;
    page.shoot("38-find").await;
    page.press("button", "Close").await;

    // Somebody asks and goes away: what was accepted waits for them.
    let cats = cat.add_contact(&alice_id);
    page.named(
        "article",
        "Request from Catherine Delacroix-Featherstonehaugh",
    )
    .await;
    cat.down();
    page.press("button", "Accept").await;
    page.wait_text("Looking for someone who has the history")
        .await;
    page.shoot("29-syncing").await;
    cat.up();
    cat.wait_online();
    page.wait_text("You accepted").await;
    cat.wait_role(&cats, &alice_id, "member");

    // A group.
    alice.befriend(&denys);
    page.press("button", "New group").await;
    page.fill("Name of the group", "Bird watchers").await;
    page.give_picture(
        "[data-testid=photo-file]",
        ["#7fb2c9", "#c9b37f", "#f4e9c8"],
    )
    .await;
    page.find(".photo img").await;
    page.fill("Who is invited", "bob\n").await;
    page.fill("Who is invited", "cath\n").await;
    page.named("button", "Take Bob Okonkwo out").await;
    page.shoot("16-new-group").await;
    page.press("button", "Join a group by its address").await;
    page.named("heading", "Join a group").await;
    page.shoot("16-join-group").await;
    page.press("button", "Close").await;
    page.press("button", "New group").await;
    page.fill("Name of the group", "Bird watchers").await;
    page.give_picture(
        "[data-testid=photo-file]",
        ["#7fb2c9", "#c9b37f", "#f4e9c8"],
    )
    .await;
    page.find(".photo img").await;
    for who in ["bob\n", "cath\n", "денис\n"] {
        page.fill("Who is invited", who).await;
    }
    page.press("button", "Make the group").await;
    page.named("textbox", "Message to Bird watchers").await;
    let group = bob.wait_request();
    for friend in [&bob, &cat, &denys] {
        friend.wait_request_for(&group);
        friend.accept(&group);
    }
    for id in [&bob.id(), &cat_id, &denys_id] {
        alice.wait_role(&group, id, "member");
    }
    bob.send(&group, "Here we all are");
    bubble(&page, "Here we all are").await;
    cat.wait_text_or_history(&group, "Here we all are");
    cat.send(
        &group,
        "I have my grandmother’s binoculars. Does anybody need a pair?",
    );
    bubble(
        &page,
        "I have my grandmother’s binoculars. Does anybody need a pair?",
    )
    .await;
    page.fill("Message to Bird watchers", "Welcome!\n").await;
    bubble(&page, "Welcome!").await;
    denys.wait_text_or_history(&group, "Welcome!");
    denys.send(&group, "BUY CHEAP BINOCULARS!!! https://example.org/cheap");
    bubble(&page, "BUY CHEAP BINOCULARS!!! https://example.org/cheap").await;
    checked(&page).await;
    page.shoot("17-group").await;
    page.press("button", "Details").await;
    page.find("[data-testid=member]").await;
    page.shoot("18-group-details").await;
    page.press("button", "Invite someone").await;
    page.shoot("19-invite").await;
    page.press("button", "Close").await;
    page.press("button", "Edit").await;
    page.named("textbox", "Description").await;
    page.fill("Description", "Saturdays at dusk, at the old gasworks")
        .await;
    page.shoot("19-edit-group").await;
    page.press("button", "Save").await;
    page.wait_text("You changed the description").await;

    // One of them is banned.
    page.until(
        "Denys among the members",
        "const e = [...document.querySelectorAll('[data-testid=member] .member')].find(e => e.innerText.includes('Денис')); e?.click(); return !!e",
    )
    .await;
    page.named("button", "Ban…").await;
    page.run("document.querySelector('.does').scrollIntoView({block: 'center'})")
        .await;
    page.shoot("39-member").await;
    page.press("button", "Ban…").await;
    page.named("heading", "Ban Денис Шевченко?").await;
    page.shoot("39-ban").await;
    page.press("button", "Ban Денис Шевченко").await;
    page.wait_text("Денис Шевченко was banned").await;
    page.until(
        "the banned among those who are gone",
        "const e = document.querySelector('.gone-people'); if (e) e.open = true; return !!e",
    )
    .await;
    page.shoot("39-banned").await;
    page.press("button", "Leave the group…").await;
    page.shoot("39-leave").await;
    page.press("button", "Cancel").await;
    page.press("button", "Close").await;
    let theirs = Browser::open(&mut lab, &away).await;
    theirs.go(denys.url()).await;
    theirs.named("heading", "Conversations").await;
    theirs.run(&format!("location.hash = '#/c/{group}'")).await;
    theirs
        .wait_text("The admins banned you from this group")
        .await;
    theirs.shoot("40-banned-me").await;

    // A public group, and its address.
    page.press("button", "New group").await;
    page.fill("Name of the group", "Neighbourhood").await;
    page.run("document.querySelector('input[value=public]').click()")
        .await;
    page.press("button", "Make the group").await;
    page.named("textbox", "Message to Neighbourhood").await;
    page.press("button", "Details").await;
    page.find("[data-testid=group-address]").await;
    page.shoot("41-public").await;
    page.press("button", "Close").await;

    // What was begun and not sent is a draft.
    page.fill("Message to Neighbourhood", "Shall we meet on")
        .await;

    // What was said elsewhere meanwhile is unread.
    bob.send(&conversation, "Did you see the group?");
    page.wait_text("Did you see the group?").await;
    bob.send(&conversation, "And the weather looks good");
    page.wait_text("And the weather looks good").await;
    page.run("location.hash = '#/'").await;
    page.named("heading", "Pick a conversation").await;
    page.shoot("20-list").await;
    shoot_contrast(&page, "20-list").await;
    page.key("Ctrl+Shift+F").await;
    page.fill("Search", "binoculars").await;
    page.find("[data-testid=hit]").await;
    page.shoot("20-search").await;
    page.key("Escape").await;

    // Two days: in a time zone where it was midnight a minute ago.
    let minutes = page
        .run("const d = new Date(); return d.getUTCHours() * 60 + d.getUTCMinutes()")
        .await;
    page.devtools(
        "Emulation.setTimezoneOverride",
        json!({"timezoneId": where_it_is_midnight(minutes.as_i64().unwrap_or_default())}),
    )
    .await;
    page.reload().await;
    page.run(&format!("location.hash = '#/c/{conversation}'"))
        .await;
    bubble(&page, "And the weather looks good").await;
    checked(&page).await;
    page.shoot("28-days-unread").await;
    page.devtools("Emulation.setTimezoneOverride", json!({"timezoneId": ""}))
        .await;
    page.reload().await;

    // Around it.
    page.press("button", "Settings").await;
    page.wait_text("Paired browsers").await;
    page.wait_text("This browser").await;
    page.shoot("21-settings").await;
    shoot_contrast(&page, "21-settings").await;
    page.run("document.querySelector('.pane-body:has(.page-pane)').scrollTo(0, 1e6)")
        .await;
    page.press("button", "Make a code").await;
    page.wait_text("Open this address in the other browser")
        .await;
    page.shoot("22-settings-code").await;
    page.press("button", "Sign out…").await;
    page.named("heading", "Sign out here?").await;
    page.shoot("22-sign-out").await;
    page.press("button", "Cancel").await;

    // Somebody is blocked, and found again.
    alice.rpc(
        "contact.block",
        json!({"account": alice.account(), "id": denys_id}),
    );
    page.find("[data-testid=blocked]").await;
    page.run("document.querySelector('[data-testid=blocked]').scrollIntoView({block: 'center'})")
        .await;
    page.shoot("22-settings-blocked").await;
    page.run("location.hash = '#/'").await;
    page.until(
        "the conversation with Denys",
        "const e = [...document.querySelectorAll('[data-testid=conversation]')].find(e => e.querySelector('.name').textContent === 'Денис Шевченко'); e?.click(); return !!e",
    )
    .await;
    page.wait_text("You blocked Денис Шевченко").await;
    page.shoot("22-blocked").await;
    page.run("dispatchEvent(new KeyboardEvent('keydown', {key: '?'}))")
        .await;
    page.find("dialog .shortcuts").await;
    page.shoot("23-shortcuts").await;
    page.press("button", "Close").await;
    page.run("dispatchEvent(new KeyboardEvent('keydown', {key: 'k', ctrlKey: true}))")
        .await;
    page.find("#palette").await;
    page.shoot("24-palette").await;
    page.press("button", "Close").await;

    // The other is away.
    page.run(&format!("location.hash = '#/c/{conversation}'"))
        .await;
    page.named("textbox", "Message to Bob Okonkwo").await;
    let swifts = bob.rpc(
        "conversation.create",
        json!({"account": bob.account(), "mode": "public", "title": "Swift counters"}),
    );
    let address = swifts["address"].as_str().expect("an address").to_owned();
    bob.down();
    page.fill("Message to Bob Okonkwo", "Are you still there?\n")
        .await;
    bubble(&page, "Are you still there?").await;
    page.find("[data-testid=link-line]").await;
    page.shoot("25-other-offline").await;
    page.press("button", "New group").await;
    page.press("button", "Join a group by its address").await;
    page.fill("Address of the group", &address).await;
    page.press("button", "Join").await;
    page.wait_text("Asking to be let in").await;
    page.shoot("29-knocking").await;
    page.run(&format!("location.hash = '#/c/{conversation}'"))
        .await;
    bubble(&page, "Are you still there?").await;

    // One's own network is gone.
    here.unplug();
    page.wait_text("No network").await;
    page.shoot("26-unplugged").await;
    here.plug();
    alice.wait_online();

    // The same in Arabic, from right to left.
    page.run("localStorage.setItem('starling.language', 'ar')")
        .await;
    page.reload().await;
    bubble(&page, "Are you still there?").await;
    checked(&page).await;
    page.shoot("30-arabic-conversation").await;
    for (name, place) in [
        ("31-arabic-details", format!("#/c/{conversation}/details")),
        ("32-arabic-group", format!("#/c/{group}")),
        ("32-arabic-group-details", format!("#/c/{group}/details")),
        ("33-arabic-settings", "#/settings".into()),
        ("34-arabic-list", "#/".into()),
    ] {
        page.run(&format!("location.hash = {}", json!(place))).await;
        page.find("main").await;
        page.shoot(name).await;
    }
    page.press("button", "مجموعة جديدة").await;
    page.find("#group-title").await;
    page.shoot("35-arabic-new-group").await;
    page.run("localStorage.removeItem('starling.language')")
        .await;

    // The bridge is gone: first while one writes, then for a page that is just opened.
    page.run(&format!("location.hash = '#/c/{conversation}'"))
        .await;
    page.reload().await;
    bubble(&page, "Are you still there?").await;
    alice.down();
    page.wait_text("The connection to Starling is lost").await;
    page.fill("Message to Bob Okonkwo", "Written while Starling is away\n")
        .await;
    page.find("[data-testid=pending]").await;
    page.shoot("27-bridge-gone").await;
    page.close().await;
    theirs.close().await;
}
