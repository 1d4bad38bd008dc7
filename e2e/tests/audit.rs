//! The page by keyboard, with less motion, and under an audit that finds what is wrong.

use serde_json::json;
use starling_e2e::browser::{DESKTOP, PHONE};
use starling_e2e::{Browser, Lab, Starling, browser, jami, needs};

/// What is wrong in a page made so, and the rule that must find it.
const WRONG: [(&str, &str); 9] = [
    (
        "name: ",
        "const b = document.createElement('button'); b.style = 'width: 40px; height: 40px'; document.querySelector('main').append(b)",
    ),
    ("name: ", "document.querySelector('label').remove()"),
    (
        "contrast: ",
        "document.querySelector('.lead').style.color = '#999'",
    ),
    (
        "target: ",
        "document.querySelector('button').style = 'min-height: 0; height: 12px; padding: 0'",
    ),
    (
        "heading: ",
        "const h = document.createElement('h4'); h.textContent = 'Too deep'; document.querySelector('main').append(h)",
    ),
    ("language: ", "document.documentElement.dir = 'rtl'"),
    (
        "width: ",
        "const d = document.createElement('div'); d.style = 'width: 5000px; height: 1px'; document.documentElement.style.overflow = 'auto'; document.body.style.overflow = 'visible'; document.body.append(d)",
    ),
    (
        "motion: ",
        "document.querySelector('main').style.setProperty('transition-duration', '1s', 'important')",
    ),
    (
        "id: ",
        "for (const _ of [1, 2]) { const p = document.createElement('p'); p.id = 'twin'; document.querySelector('main').append(p); }",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_audit_finds_what_is_wrong() {
    needs!(browser::missing());
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let host = lab.host("alice");
    let mut alice = Starling::start(&host, &boot);
    let page = Browser::open(&mut lab, &host).await;
    page.screen(
        DESKTOP.0,
        DESKTOP.1,
        &[
            ("prefers-color-scheme", "light"),
            ("prefers-reduced-motion", "reduce"),
        ],
    )
    .await;
    let fresh = async || {
        page.go("about:blank").await;
        page.go("http://127.0.0.1:7474/").await;
        page.named("heading", "Pair this browser").await;
        page.painted().await;
    };
    fresh().await;
    assert_eq!(page.faults().await, Vec::<String>::new());
    for (rule, change) in WRONG {
        fresh().await;
        page.run(change).await;
        let found = page.faults().await;
        assert!(
            found.iter().any(|f| f.starts_with(rule)),
            "{rule} after {change}: {found:#?}"
        );
    }
    fresh().await;
    if let Some(found) = page.axe_faults().await {
        assert_eq!(found, Vec::<String>::new());
        page.run("document.querySelector('main').setAttribute('aria-colour', 'x'); document.querySelector('label').remove()")
            .await;
        let found = page.axe_faults().await.unwrap_or_default();
        assert!(found.iter().any(|f| f.starts_with("axe ")), "{found:?}");
    }
    page.close().await;
    alice.down();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everything_is_reached_by_keyboard_and_one_sees_where_one_is() {
    needs!(browser::missing());
    let mut lab = Lab::new();
    let boot = jami::boot(&mut lab);
    let hosts = ["alice", "bob"].map(|name| lab.host(name));
    let [mut alice, mut bob] = Starling::each(&hosts, &boot);
    alice.have_account("Alice Martin");
    bob.have_account("Bob Okonkwo");
    let two = bob.befriend(&alice);
    bob.send(&two, "Hello");
    let hello = alice.send(&two, "Hello yourself: https://example.org/");
    bob.wait_text_or_history(&two, "Hello yourself: https://example.org/");
    bob.rpc(
        "message.react",
        json!({"account": bob.account(), "conversation": two, "id": hello, "emoji": "👍"}),
    );
    let page = Browser::open(&mut lab, &hosts[0]).await;
    page.go(alice.url()).await;
    page.named("heading", "Conversations").await;

    // What is asked in the moment in which something else is closed stays.
    page.run("dispatchEvent(new KeyboardEvent('keydown', {key: '?'}))")
        .await;
    page.find("dialog .shortcuts").await;
    page.run(
        "document.querySelector('dialog .sheet-head button').click(); \
         dispatchEvent(new KeyboardEvent('keydown', {key: 'k', ctrlKey: true}))",
    )
    .await;
    page.find("#palette").await;
    let frames = "return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => \
        requestAnimationFrame(() => done(document.querySelector('#palette')?.checkVisibility())))))";
    assert_eq!(page.run(frames).await, json!(true));
    page.press("button", "Close").await;

    let places = [
        ("the list", "#/".to_owned()),
        ("a conversation", format!("#/c/{two}")),
        ("its details", format!("#/c/{two}/details")),
        ("the settings", "#/settings".to_owned()),
    ];
    for (width, height) in [DESKTOP, PHONE] {
        page.screen(width, height, &[("prefers-reduced-motion", "reduce")])
            .await;
        for (what, place) in &places {
            page.run(&format!("location.hash = {}", json!(place))).await;
            page.until(
                "a place where something is",
                "return [...document.querySelectorAll('main, .list-pane')].some(e => e.checkVisibility())",
            )
            .await;
            page.painted().await;
            let stops = page.tab_around().await;
            assert!(stops.len() > 3, "{what}: {stops:#?}");
            for stop in &stops {
                assert!(stop.visible, "{what}: no one sees the focus of {stop:?}");
                assert!(stop.inside, "{what}: out of sight: {stop:?}");
            }
            page.audit(&format!("{what} with less motion, {width}"), false)
                .await;
        }
    }
    page.screen(DESKTOP.0, DESKTOP.1, &[]).await;

    // Every question takes the focus, keeps it while it is open, and gives it back.
    page.run(&format!("location.hash = '#/c/{two}'")).await;
    page.find("#composer").await;
    for name in ["New group", "Add someone", "Keyboard shortcuts"] {
        page.press("button", name).await;
        page.find("dialog:modal").await;
        page.painted().await;
        for stop in page.tab_around().await {
            assert!(stop.visible, "{name}: no one sees the focus of {stop:?}");
        }
        assert_eq!(
            page.run("return !!document.activeElement.closest('dialog') || document.activeElement === document.body").await,
            true,
            "{name}: the focus is behind the question"
        );
        page.run("document.querySelector('dialog button').focus()")
            .await;
        page.key("Escape").await;
        page.until(
            "the question to close",
            "return !document.querySelector('dialog')",
        )
        .await;
        let back = page
            .run("return document.activeElement?.getAttribute('aria-label') ?? ''")
            .await;
        assert_eq!(back, name, "the focus comes back to what was pressed");
    }

    // What comes in by itself is said by the log, and is not read again with the rest.
    page.run("window.said = []; new MutationObserver(all => all.forEach(m => m.addedNodes.forEach(n => window.said.push(n.textContent)))).observe(document.querySelector('[role=log]'), { childList: true, subtree: true })").await;
    bob.send(&two, "Are you there?");
    page.bubble("Are you there?").await;
    let said = page
        .run("return window.said.filter(t => t.includes('Hello yourself')).length")
        .await;
    assert_eq!(said, 0, "what was there is put there again");
    assert_eq!(page.complaints().await, Vec::<String>::new());
    page.close().await;
    alice.down();
    bob.down();
}
