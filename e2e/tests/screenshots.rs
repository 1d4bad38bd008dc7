//! Pictures of every view, for people to look at: `target/screenshots/*.png`.

use serde_json::json;
use starling_e2e::{Browser, Lab, Starling, browser, jami, needs};

const DESKTOP: (u32, u32) = (1280, 800);
const PHONE: (u32, u32) = (390, 844);

/// The view as it is now, on a desktop and a phone, light and dark.
async fn shoot(page: &Browser, name: &str) {
    for (device, (width, height)) in [("desktop", DESKTOP), ("phone", PHONE)] {
        for look in ["light", "dark"] {
            page.screen(width, height, &[("prefers-color-scheme", look)])
                .await;
            painted(page).await;
            page.shot(&format!("{name}-{device}-{look}")).await;
        }
    }
    page.screen(DESKTOP.0, DESKTOP.1, &[]).await;
}

/// With more contrast, as the person's system may ask for.
async fn shoot_contrast(page: &Browser, name: &str) {
    for look in ["light", "dark"] {
        page.screen(
            DESKTOP.0,
            DESKTOP.1,
            &[("prefers-color-scheme", look), ("prefers-contrast", "more")],
        )
        .await;
        painted(page).await;
        page.shot(&format!("{name}-contrast-{look}")).await;
    }
    page.screen(DESKTOP.0, DESKTOP.1, &[]).await;
}

/// Waits until what changed is on the screen and moves no more.
async fn painted(page: &Browser) {
    page.run("window.stillSince = null; requestAnimationFrame(() => requestAnimationFrame(() => { window.stillSince = 1; }))").await;
    page.until(
        "the page to stand still",
        "return window.stillSince && document.getAnimations().every(a => a.playState !== 'running' || a.effect.getComputedTiming().iterations === Infinity)",
    )
    .await;
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
    let bootstrap = format!("{}:4222", boot.addr);
    let (here, there) = (lab.host("alice"), lab.host("bob"));
    let mut alice = Starling::start(&here, &bootstrap);
    let mut bob = Starling::start(&there, &bootstrap);
    bob.create_account("Bob Okonkwo");
    let page = Browser::open(&mut lab, &here).await;

    // Without the code.
    page.go("http://127.0.0.1:7474/").await;
    page.named("heading", "Pair this browser").await;
    shoot(&page, "01-unpaired").await;
    page.go("about:blank").await;

    // The first minute.
    page.go(alice.url()).await;
    page.named("heading", "Welcome to Starling").await;
    shoot(&page, "02-first-run").await;
    page.press("button", "I have a backup of an account").await;
    page.named("heading", "Restore from a backup").await;
    shoot(&page, "03-first-run-backup").await;
    page.press("button", "Back").await;
    page.fill("Your name", "Alice Martin").await;
    page.wait_text("keys").await;
    shoot(&page, "04-first-run-typed").await;
    page.press("button", "Continue").await;
    page.named("heading", "This is your address").await;
    shoot(&page, "05-address").await;
    page.press("button", "Later").await;
    page.named("heading", "Nobody here yet").await;
    shoot(&page, "06-empty").await;
    let alice_id = alice.adopt_account();

    // Adding someone, and what can go wrong.
    page.press("button", "Add someone").await;
    shoot(&page, "07-add").await;
    page.fill("Their address", "alice@example.org").await;
    page.press("button", "Send request").await;
    page.wait_text("This is not an address").await;
    shoot(&page, "08-add-wrong").await;
    page.press("button", "Close").await;
    page.press("button", "Show my address").await;
    shoot(&page, "09-own-address").await;
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
    shoot(&page, "10-request").await;
    page.press("button", "Accept").await;
    page.named("textbox", "Message to Bob Okonkwo").await;
    page.wait_text("You joined").await;
    shoot(&page, "11-conversation-new").await;

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
    shoot(&page, "12-conversation").await;
    shoot_contrast(&page, "12-conversation").await;

    // The proof of a message.
    page.press("button", "Show the proof: Checked by this page")
        .await;
    page.wait_text("This page checked the signature, the device and the rules")
        .await;
    shoot(&page, "13-proof").await;
    shoot_contrast(&page, "13-proof").await;
    page.press("button", "Details").await;
    page.find("[data-testid=member]").await;
    shoot(&page, "14-details").await;
    page.press("button", "Block").await;
    shoot(&page, "15-block").await;
    page.press("button", "Cancel").await;

    // A group.
    page.press("button", "New group").await;
    page.fill("Name of the group", "Bird watchers").await;
    page.press("checkbox", "BO Bob Okonkwo").await;
    shoot(&page, "16-new-group").await;
    page.press("button", "Make the group").await;
    page.named("textbox", "Message to Bird watchers").await;
    let group = bob.wait_request();
    bob.accept(&group);
    page.wait_text("Bob Okonkwo joined").await;
    bob.send(&group, "Here we all are");
    bubble(&page, "Here we all are").await;
    page.fill("Message to Bird watchers", "Welcome!\n").await;
    bubble(&page, "Welcome!").await;
    checked(&page).await;
    shoot(&page, "17-group").await;
    page.press("button", "Details").await;
    shoot(&page, "18-group-details").await;
    page.press("button", "Invite someone").await;
    shoot(&page, "19-invite").await;
    page.press("button", "Close").await;

    // What was said elsewhere meanwhile is unread.
    bob.send(&conversation, "Did you see the group?");
    page.wait_text("Did you see the group?").await;
    bob.send(&conversation, "And the weather looks good");
    page.wait_text("And the weather looks good").await;
    page.run("location.hash = '#/'").await;
    page.named("heading", "Pick a conversation").await;
    shoot(&page, "20-list").await;
    shoot_contrast(&page, "20-list").await;

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
    shoot(&page, "28-days-unread").await;
    page.devtools("Emulation.setTimezoneOverride", json!({"timezoneId": ""}))
        .await;
    page.reload().await;

    // Around it.
    page.press("button", "Settings").await;
    page.wait_text("Paired browsers").await;
    page.wait_text("This browser").await;
    shoot(&page, "21-settings").await;
    shoot_contrast(&page, "21-settings").await;
    page.run("document.querySelector('.pane-body:has(.page-pane)').scrollTo(0, 1e6)")
        .await;
    page.press("button", "Make a code").await;
    page.wait_text("Open this address in the other browser")
        .await;
    shoot(&page, "22-settings-code").await;
    page.run("dispatchEvent(new KeyboardEvent('keydown', {key: '?'}))")
        .await;
    page.find("dialog .shortcuts").await;
    shoot(&page, "23-shortcuts").await;
    page.press("button", "Close").await;
    page.run("dispatchEvent(new KeyboardEvent('keydown', {key: 'k', ctrlKey: true}))")
        .await;
    page.find("#palette").await;
    shoot(&page, "24-palette").await;
    page.press("button", "Close").await;

    // The other is away.
    page.run(&format!("location.hash = '#/c/{conversation}'"))
        .await;
    page.named("textbox", "Message to Bob Okonkwo").await;
    bob.down();
    page.fill("Message to Bob Okonkwo", "Are you still there?\n")
        .await;
    bubble(&page, "Are you still there?").await;
    page.find("[data-testid=link-line]").await;
    shoot(&page, "25-other-offline").await;

    // One's own network is gone.
    here.unplug();
    page.wait_text("No network").await;
    shoot(&page, "26-unplugged").await;
    here.plug();
    alice.wait_online();

    // The same in Arabic, from right to left.
    page.run("localStorage.setItem('starling.language', 'ar')")
        .await;
    page.reload().await;
    bubble(&page, "Are you still there?").await;
    checked(&page).await;
    shoot(&page, "30-arabic-conversation").await;
    for (name, place) in [
        ("31-arabic-details", format!("#/c/{conversation}/details")),
        ("32-arabic-group", format!("#/c/{group}")),
        ("33-arabic-settings", "#/settings".into()),
        ("34-arabic-list", "#/".into()),
    ] {
        page.run(&format!("location.hash = {}", json!(place))).await;
        page.find("main").await;
        shoot(&page, name).await;
    }
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
    shoot(&page, "27-bridge-gone").await;
    page.close().await;
}
