use starling_core::account::TrustRequest;

pub(crate) fn run(data: &[u8]) {
    if let Ok(request) = TrustRequest::decode(data) {
        assert_eq!(TrustRequest::decode(&request.encode()), Ok(request));
    }
}
