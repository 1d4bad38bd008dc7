//! A QR code as one SVG path.

use leptos::prelude::*;
use leptos::svg;

/// Draws a text as a QR code.
#[component]
pub(crate) fn Qr(
    /// What a scanner reads.
    text: String,
    /// What a screen reader says.
    label: String,
) -> impl IntoView {
    let code = fast_qr::QRBuilder::new(text)
        .ecl(fast_qr::ECL::M)
        .build()
        .ok()?;
    let size = code.size;
    let mut path = String::new();
    for y in 0..size {
        for x in 0..size {
            if code[y][x].value() {
                path.push_str(&format!("M{x} {y}h1v1h-1z"));
            }
        }
    }
    let drawing = svg::svg()
        .attr("viewBox", format!("0 0 {size} {size}"))
        .attr("aria-hidden", "true")
        .child(svg::path().attr("d", path));
    Some(view! { <div class="qr" role="img" aria-label=label>{drawing}</div> })
}
