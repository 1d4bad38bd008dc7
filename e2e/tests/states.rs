//! Pictures of what goes otherwise than one hopes, and of what one changes one's mind about:
//! `target/screenshots/6*.png`. The views that all goes well in are in `screenshots.rs`.

use serde_json::{Value, json};
use starling_e2e::{Browser, Lab, Starling, browser, jami, needs};
use std::process::Command;

/// From now on the page's long waits do not end, so that there is time for pictures of what can be taken back.
const HOLD: &str = "window.letGo ??= []; if (!window.realTimeout) { window.realTimeout = window.setTimeout; \
    window.setTimeout = (f, ms, ...more) => ms < 6000 ? window.realTimeout(f, ms, ...more) : window.letGo.push(f) && 0; }";

/// They end now, and take their time again.
const LET_GO: &str = "window.setTimeout = window.realTimeout; window.realTimeout = null; \
    for (const f of window.letGo.splice(0)) f();";

/// Before the page starts: it waits until `goOn` is called, with all it needs but the bridge.
const WAIT_AT_START: &str = "const real = fetch; window.fetch = async (what, ...more) => { const answer = await real(what, ...more); \
    if (!String(what.url ?? what).includes('/locales/')) return answer; const text = await answer.text(); \
    await new Promise(done => { window.goOn = done; }); return new Response(text, { headers: answer.headers }); };";

/// Waits until this conversation is in the list, and opens it.
async fn open(page: &Browser, name: &str) {
    let script = format!(
        "const e = [...document.querySelectorAll('[data-testid=conversation]')].find(e => e.querySelector('.name').textContent === {}); e?.click(); return !!e",
        json!(name)
    );
    page.until(&format!("the conversation {name:?}"), &script)
        .await;
}

/// A signal to the bridge.
fn signal(bridge: &Starling, name: &str) {
    let sent = Command::new("kill")
        .args([name, &bridge.pid().to_string()])
        .status();
    assert!(sent.is_ok_and(|s| s.success()), "kill {name}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn screenshots_of_two_accounts() {
    needs!(browser::missing());
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let hosts = ["alice", "bob"].map(|name| lab.host(name));
    let [mut alice, mut bob] = Starling::each(&hosts, &boot);
    alice.have_account("Alice Martin");
    bob.have_account("Bob Okonkwo");
    let private = alice.befriend(&bob);
    bob.send(&private, "Are you coming on Saturday?");
    let page = Browser::open(&mut lab, &hosts[0]).await;
    page.go(alice.url()).await;
    open(&page, "Bob Okonkwo").await;
    page.bubble("Are you coming on Saturday?").await;

    // Another account is begun, given up, and begun again.
    page.press("button", "Add an account").await;
    page.named("heading", "Add an account").await;
    page.shoot("60-account-add").await;
    page.fill("Your name", "Ali").await;
    page.wait_text("Your keys are ready").await;
    page.press("button", "Cancel").await;
    page.bubble("Are you coming on Saturday?").await;
    page.until(
        "one account",
        "return document.querySelectorAll('.rail .account').length === 1",
    )
    .await;
    page.press("button", "Add an account").await;
    page.fill("Your name", "Martin & Daughters, Orchards").await;
    page.press("button", "Continue").await;
    page.named("heading", "This is your address").await;
    page.press("button", "Later").await;
    page.named("heading", "Nobody here yet").await;
    assert_eq!(page.texts(".notices .note").await, Vec::<String>::new());
    page.shoot("60-account-new").await;

    // What comes for the one that is not shown is not missed.
    bob.send(&private, "We meet at the bridge");
    page.named("button", "Account Alice Martin, something is new")
        .await;
    page.shoot("60-account-news").await;
    page.reload().await;
    page.press("button", "Account Alice Martin, something is new")
        .await;
    open(&page, "Bob Okonkwo").await;
    page.bubble("We meet at the bridge").await;
    page.named("button", "Account Alice Martin").await;
    page.shoot("60-account-switched").await;

    // One of them goes for good.
    page.press("button", "Account Martin & Daughters, Orchards")
        .await;
    page.named("heading", "Nobody here yet").await;
    page.press("button", "Settings").await;
    page.press("button", "Remove this account…").await;
    page.named("heading", "Remove this account?").await;
    page.shoot("60-account-remove").await;
    page.press("button", "Remove for good").await;
    open(&page, "Bob Okonkwo").await;
    page.bubble("We meet at the bridge").await;
    assert_eq!(page.complaints().await, Vec::<String>::new());
    page.close().await;
    alice.down();
    bob.down();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn screenshots_of_what_is_not_sent_and_of_starling_stopped() {
    needs!(browser::missing());
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let hosts = ["alice", "bob"].map(|name| lab.host(name));
    let [mut alice, mut bob] = Starling::each(&hosts, &boot);
    alice.have_account("Alice Martin");
    bob.have_account("Bob Okonkwo");
    let page = Browser::open(&mut lab, &hosts[0]).await;
    page.go(alice.url()).await;

    page.named("heading", "Nobody here yet").await;

    // Somebody who has not answered yet.
    let two = alice.add_contact(&bob.id());
    page.run(&format!("location.hash = '#/c/{two}'")).await;
    page.find("#composer").await;
    page.wait_text("has not accepted yet").await;
    page.shoot("61-not-accepted").await;
    bob.wait_request_for(&two);
    bob.accept(&two);
    alice.wait_role(&two, &bob.id(), "member");
    page.named("textbox", "Message to Bob Okonkwo").await;
    bob.send(&two, "Here I am");
    page.bubble("Here I am").await;

    // More than a message can hold.
    page.run(
        "const field = document.querySelector('#composer'); field.value = 'All of it, from the beginning. '.repeat(17000); field.dispatchEvent(new Event('input', { bubbles: true }))",
    )
    .await;
    page.press("button", "Send").await;
    page.wait_text("Not sent: That is too large.").await;
    page.shoot("61-not-sent").await;
    page.press("button", "Edit").await;
    page.gone("[data-testid=pending]").await;
    page.until(
        "the words to be back",
        "const field = document.querySelector('#composer'); const back = field.value.length > 500000; if (back) { field.value = ''; field.dispatchEvent(new Event('input', { bubbles: true })); } return back",
    )
    .await;

    // The bridge has it, and does not answer.
    signal(&alice, "-STOP");
    page.fill("Message to Bob Okonkwo", "Can you hear me?\n")
        .await;
    page.find("[data-testid=pending]").await;
    page.shoot("61-being-saved").await;
    // It ends without an answer. Nobody knows whether it was saved, until it is there again.
    alice.kill();
    page.wait_text("The connection to Starling is lost").await;
    page.wait_text("Not sent").await;
    page.fill("Message to Bob Okonkwo", "I write on\n").await;
    page.until(
        "two messages to wait",
        "return document.querySelectorAll('[data-testid=pending]').length === 2",
    )
    .await;
    page.shoot("61-stopped").await;
    // After a while the page says what one can do.
    page.wait_text("Start it in a terminal").await;
    page.shoot("61-stopped-long").await;
    alice.up();
    page.bubble("I write on").await;
    page.gone(".socket-line").await;
    page.press("button", "Try again").await;
    page.bubble("Can you hear me?").await;
    page.gone("[data-testid=pending]").await;
    page.shoot("61-back").await;

    // A page that finds no bridge.
    page.devtools(
        "Page.addScriptToEvaluateOnNewDocument",
        json!({"source": WAIT_AT_START}),
    )
    .await;
    page.devtools("Page.enable", json!({})).await;
    page.run("localStorage.setItem('starling.language', 'fr')")
        .await;
    page.reload().await;
    page.until("the page to begin", "return !!window.goOn")
        .await;
    alice.down();
    page.run("window.goOn()").await;
    page.wait_text("Starling n’est pas").await;
    page.shoot("61-not-running").await;
    alice.up();
    page.bubble("Can you hear me?").await;
    page.close().await;
    alice.down();
    bob.down();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn screenshots_of_second_thoughts_and_of_who_is_away() {
    needs!(browser::missing());
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let hosts = ["alice", "bob", "cat"].map(|name| lab.host(name));
    let [mut alice, mut bob, mut cat] = Starling::each(&hosts, &boot);
    let alice_id = alice.have_account("Alice Martin");
    bob.have_account("Bob Okonkwo");
    cat.have_account("Catherine Delacroix-Featherstonehaugh");
    let two = alice.befriend(&bob);
    let page = Browser::open(&mut lab, &hosts[0]).await;
    page.go(alice.url()).await;
    open(&page, "Bob Okonkwo").await;
    page.fill("Message to Bob Okonkwo", "The flasks are in the shed\n")
        .await;
    page.bubble("The flasks are in the shed").await;
    bob.wait_text_or_history(&two, "The flasks are in the shed");
    bob.send(&two, "وجدتها خلف الباب، إلى جانب السلم الذي أعرته للجيران");
    page.bubble("وجدتها خلف الباب، إلى جانب السلم الذي أعرته للجيران")
        .await;
    page.press("button", "Emoji").await;
    page.find(".from-composer").await;
    page.shoot("62-emoji").await;
    page.key("Escape").await;

    // A message is deleted, a request declined, another one blocked; each can be taken back.
    page.run(HOLD).await;
    page.until(
        "the own message",
        "const e = document.querySelector('[data-testid=message].own'); e?.focus(); return !!e",
    )
    .await;
    page.key("Delete").await;
    page.wait_text("This message will be deleted").await;
    page.shoot("62-deleting").await;
    page.press("button", "Undo").await;
    page.bubble("The flasks are in the shed").await;
    cat.rpc(
        "contact.add",
        json!({"account": cat.account(), "id": alice_id, "message": "May I see the binoculars?"}),
    );
    page.run("location.hash = '#/'").await;
    page.find("[data-testid=request]").await;
    for (button, says, name) in [
        ("Decline", "will be declined", "62-declining"),
        ("Block", "will be blocked", "62-blocking"),
    ] {
        page.press("button", button).await;
        page.wait_text(says).await;
        page.shoot(name).await;
        page.press("button", "Undo").await;
        page.named("button", button).await;
    }
    // What was taken back does not happen when its time is over.
    page.run(LET_GO).await;
    page.named("button", "Accept").await;
    page.run(HOLD).await;

    // Somebody is blocked, which says where one would write why one cannot.
    page.run(&format!("location.hash = '#/c/{two}/details'"))
        .await;
    page.until(
        "the button in the details",
        "const e = [...document.querySelectorAll('.details-pane button')].find(e => e.innerText.trim() === 'Block'); e?.click(); return !!e",
    )
    .await;
    page.named("button", "Unblock").await;
    page.shoot("62-blocked-details").await;
    page.run(&format!("location.hash = '#/c/{two}'")).await;
    page.wait_text("You blocked Bob Okonkwo").await;
    page.gone("#composer").await;
    page.run("document.querySelector('[data-testid=message]').focus()")
        .await;
    page.key("Enter").await;
    page.find("[data-testid=menu]").await;
    page.painted().await;
    page.shot("62-blocked-menu-desktop-light").await;
    page.key("Escape").await;
    page.shoot("62-blocked").await;
    page.press("button", "Unblock").await;
    page.named("textbox", "Message to Bob Okonkwo").await;
    page.run(LET_GO).await;

    // Previews that run the other way than the page, and what finds nothing.
    bob.send(&two, "وجدتها خلف الباب، إلى جانب السلم الذي أعرته للجيران");
    page.run("location.hash = '#/'").await;
    page.named("button", "Accept").await;
    page.shoot("63-previews").await;
    open(&page, "Bob Okonkwo").await;
    page.fill(
        "Message to Bob Okonkwo",
        "نعم، سأحضر السلم معي غدًا في الصباح الباكر\n",
    )
    .await;
    page.bubble("نعم، سأحضر السلم معي غدًا في الصباح الباكر")
        .await;
    page.run("location.hash = '#/'").await;
    page.shoot("63-previews-own").await;
    page.key("Ctrl+k").await;
    page.find("#palette").await;
    page.shoot("63-palette").await;
    page.fill("Go to", "nobody by that name").await;
    page.wait_text("Nothing found for").await;
    page.shoot("63-palette-nothing").await;
    page.key("Escape").await;
    page.fill("Search", "xylophone").await;
    page.wait_text("Nothing found for").await;
    page.shoot("63-search-nothing").await;
    page.run("const e = document.querySelector('#search'); e.value = ''; e.dispatchEvent(new Event('input', { bubbles: true }))").await;
    page.run("location.hash = '#/c/0000000000000000000000000000000000000001'")
        .await;
    page.wait_text("This conversation is not here").await;
    page.shoot("63-unknown").await;

    // An account that is switched off.
    let active = json!({"account": alice.account(), "active": false});
    alice.rpc("account.setActive", active);
    page.run(&format!("location.hash = '#/c/{two}'")).await;
    page.wait_text("This account is switched off").await;
    page.shoot("64-account-off").await;
    page.press("button", "Switch it on").await;
    alice.wait_online();
    page.gone("[data-testid=link-line]").await;

    // Bob goes, and nobody remembers that he was announced: all start anew.
    bob.down();
    cat.down();
    alice.down();
    boot.unplug();
    let boot = jami::boot_named(&mut lab, "boot-again");
    let mut alice = Starling::start(&hosts[0], &boot);
    alice.adopt_account();
    page.fill("Message to Bob Okonkwo", "Are you still there?\n")
        .await;
    page.bubble("Are you still there?").await;
    page.wait_text("Bob Okonkwo is offline").await;
    page.shoot("65-offline").await;
    let links = alice.rpc("link.list", json!({"account": alice.account()}));
    let idle = |l: &Value| l["phase"] == "idle" || l["phase"].is_null();
    assert!(
        links.as_array().is_some_and(|all| all.iter().all(idle)),
        "{links}"
    );
    assert_eq!(page.texts(".notices .note").await, Vec::<String>::new());
    page.close().await;
    alice.down();
}
