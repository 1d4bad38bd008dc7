//! Starling's page. The same program runs in the page and in its worker.
//!
//! What touches the browser exists for it alone; what only computes is tested natively.
#![cfg_attr(not(target_arch = "wasm32"), allow(dead_code, unused_imports))]
// The types that Leptos makes of components are public wherever the component is.
#![cfg_attr(target_arch = "wasm32", allow(unreachable_pub))]

mod devices;
mod happening;
mod picture;
mod rich;
mod rule;
mod seek;
mod session;
mod text;
mod timeline;
mod worker;

#[cfg(target_arch = "wasm32")]
mod bridge;
#[cfg(target_arch = "wasm32")]
mod browser;
#[cfg(target_arch = "wasm32")]
mod keys;
#[cfg(target_arch = "wasm32")]
mod parts;
#[cfg(target_arch = "wasm32")]
mod say;
#[cfg(target_arch = "wasm32")]
mod state;
#[cfg(target_arch = "wasm32")]
mod views;

#[cfg(target_arch = "wasm32")]
fn main() {
    use wasm_bindgen::JsCast as _;
    if let Ok(scope) = js_sys::global().dyn_into::<web_sys::DedicatedWorkerGlobalScope>() {
        worker::run(scope);
        return;
    }
    keys::take_code_from_address();
    wasm_bindgen_futures::spawn_local(async {
        browser::apply_appearance();
        say::start().await;
        leptos::mount::mount_to_body(|| {
            state::start();
            views::App()
        });
    });
}

#[cfg(not(target_arch = "wasm32"))]
fn main() {
    eprintln!(
        "This is a page. Build it with `cargo run -p xtask -- page`, and open it in a browser."
    );
}
