//! Icons: strokes on a grid of 24, in the colour of the text. None goes without a name beside it.

use leptos::prelude::*;
use leptos::svg;

/// What there is to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Icon {
    Back,
    Close,
    Settings,
    Help,
    Search,
    AddPerson,
    AddGroup,
    AddAccount,
    Details,
    Send,
    Copy,
    Share,
    Clock,
    Told,
    Delivered,
    Read,
    Failed,
    Shield,
    ShieldBad,
    ShieldOff,
    Down,
    Reply,
    Smile,
    More,
    Edit,
    Delete,
    Camera,
    Ban,
    Undo,
    Key,
    Chat,
    Leave,
    Lock,
    Vote,
    Check,
}

impl Icon {
    fn path(self) -> &'static str {
        match self {
            Self::Back => "M15 5l-7 7 7 7",
            Self::Close => "M6 6l12 12M18 6L6 18",
            Self::Settings => "M4 7h9M17 7h3M4 17h3M11 17h9M15 4.5v5M9 14.5v5",
            Self::Help => "M9 9.5a3 3 0 1 1 4.5 2.6c-1 .6-1.5 1.2-1.5 2.4M12 18v.1",
            Self::Search => "M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14zM16 16l4.5 4.5",
            Self::AddPerson => {
                "M10 4a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM3 20c.5-4 3.300-6 7-6 1.5 0 2.900.3 4 1M18 14v7M14.5 17.5h7"
            }
            Self::AddGroup => {
                "M9 5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7zM2.5 19c.4-3.300 2.900-5 6.5-5 1.300 0 2.5.2 3.5.7M15.5 5.300a3.5 3.5 0 0 1 0 6.4M18 14v7M14.5 17.5h7"
            }
            Self::AddAccount => "M12 5v14M5 12h14",
            Self::Details => "M4 5h16v14H4zM15 5v14",
            Self::Send => "M4 12l16-8-6 16-3-7z",
            Self::Copy => "M9 9h11v11H9zM5 15H4V4h11v1",
            Self::Share => "M12 15V4M8 7.5L12 3.5l4 4M5 12v8h14v-8",
            Self::Clock => "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM12 8v4.5l3 2",
            Self::Told => "M5 12.5l4.5 4.5L19 7.5",
            Self::Delivered => "M2 12.5l4.5 4.5L16 7.5M11.5 16l1 1L22 7.5",
            // Filled by its style: seen without its colour as well.
            Self::Read => {
                "M12 2.5a9.5 9.5 0 1 0 0 19 9.5 9.5 0 0 0 0-19zM7.5 12.5l3.200 3.200 6-6.700"
            }
            Self::Failed => "M12 4a8 8 0 1 0 0 16 8 8 0 0 0 0-16zM12 8v5M12 16v.1",
            Self::Shield => {
                "M12 3.5l7.5 2.700v5.300c0 4.300-3 7.5-7.5 9-4.5-1.5-7.5-4.700-7.5-9V6.2zM8.5 12l2.5 2.5 4.5-5"
            }
            Self::ShieldBad => {
                "M12 3.5l7.5 2.700v5.300c0 4.300-3 7.5-7.5 9-4.5-1.5-7.5-4.700-7.5-9V6.2zM12 8v5M12 16v.1"
            }
            Self::ShieldOff => {
                "M12 3.5l7.5 2.700v5.300c0 4.300-3 7.5-7.5 9-4.5-1.5-7.5-4.700-7.5-9V6.2z"
            }
            Self::Down => "M6 9l6 6 6-6",
            Self::Reply => "M10 6l-6 6 6 6M4 12h9c4 0 7 2.5 7 7",
            Self::Smile => {
                "M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17zM8.5 14.5c1.700 2.300 5.300 2.300 7 0M9 9.5v.1M15 9.5v.1"
            }
            Self::More => {
                "M5 12a.7.7 0 1 0 1.4 0 .7.7 0 1 0-1.4 0zM11.300 12a.7.7 0 1 0 1.4 0 .7.7 0 1 0-1.4 0zM17.600 12a.7.7 0 1 0 1.4 0 .7.7 0 1 0-1.4 0z"
            }
            Self::Edit => "M4 20l1-4.5L16 4.5l3.5 3.5L8.5 19zM14 6.5l3.5 3.5",
            Self::Delete => "M5 7h14M10 7V4.5h4V7M7 7l.8 12.5h8.400L17 7M10.5 10.5v6M13.5 10.5v6",
            Self::Camera => {
                "M4 8h3.5l1.5-2.5h6L16.5 8H20v11H4zM12 10.5a3 3 0 1 0 0 6 3 3 0 0 0 0-6z"
            }
            Self::Ban => "M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17zM6 6l12 12",
            Self::Undo => "M8 5L4 9l4 4M4 9h9.5a5.5 5.5 0 0 1 0 11H9",
            Self::Key => "M8 11a4 4 0 1 0 0 8 4 4 0 0 0 0-8zM11 12l8-8M16 7l3 3M13.5 9.5l2 2",
            Self::Chat => "M4 5h16v11H11l-4.5 4v-4H4z",
            Self::Leave => "M14 4H5v16h9M10 12h10M16.5 8.5L20 12l-3.5 3.5",
            Self::Lock => "M6 11h12v9H6zM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
            Self::Vote => "M5 10.5h14V20H5zM9 14.5l2 2 4-4M8.5 7.5L12 4l3.5 3.5",
            Self::Check => "M5 12.5l4.5 4.5L19 7.5",
        }
    }
}

/// An icon. It is hidden from screen readers: its button has a name.
pub(crate) fn icon(which: Icon) -> impl IntoView {
    svg::svg()
        .attr("class", "icon")
        .attr("viewBox", "0 0 24 24")
        .attr("aria-hidden", "true")
        .child(svg::path().attr("d", which.path()))
}

/// An icon that points along the line, and so turns round where one reads from right to left.
pub(crate) fn turning_icon(which: Icon) -> impl IntoView {
    svg::svg()
        .attr("class", "icon turns")
        .attr("viewBox", "0 0 24 24")
        .attr("aria-hidden", "true")
        .child(svg::path().attr("d", which.path()))
}
