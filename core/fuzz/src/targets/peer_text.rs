use starling_core::peer::channel_name::ChannelName;
use starling_core::peer::ice_text::IceText;

pub(crate) fn run(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = IceText::parse(text);
        assert_eq!(ChannelName::from(text).to_string(), text);
    }
}
