use starling_core::notice::Notice;

pub(crate) fn run(data: &[u8]) {
    if let Ok(Some((_, Ok(notice)))) = Notice::first_frame(data) {
        let frame = notice.to_frame(1);
        assert_eq!(
            Notice::first_frame(&frame),
            Ok(Some((frame.len(), Ok(notice))))
        );
    }
}
