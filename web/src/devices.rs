//! The devices of the account that is shown, in whatever order answers come.

use starling_core::api::{ApiError, Device, LocalAccountId};

/// What is known of an account's devices.
#[derive(Default)]
pub(crate) struct Listed {
    account: Option<LocalAccountId>,
    /// Of the newest question.
    pub(crate) turn: u32,
    pub(crate) devices: Vec<Device>,
    pub(crate) error: Option<ApiError>,
}

impl Listed {
    /// An account is asked. What another one has is not shown meanwhile: says whether that changed what is shown.
    pub(crate) fn ask(&mut self, account: &LocalAccountId) -> bool {
        self.turn = self.turn.wrapping_add(1);
        let is_another = self.account.as_ref() != Some(account);
        if is_another {
            self.account = Some(account.clone());
            self.devices.clear();
            self.error = None;
        }
        is_another
    }

    /// The newest question's answer counts alone. Says whether this one was it.
    pub(crate) fn answer(&mut self, turn: u32, answer: Result<Vec<Device>, ApiError>) -> bool {
        if turn != self.turn {
            return false;
        }
        match answer {
            Ok(devices) => (self.devices, self.error) = (devices, None),
            Err(error) => self.error = Some(error),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use starling_core::id::DeviceId;

    fn device(n: u8) -> Vec<Device> {
        vec![Device {
            device: DeviceId([n; 32]),
            current: false,
            revoked: false,
        }]
    }

    #[test]
    fn a_late_answer_changes_nothing_and_an_error_goes_with_the_next_success() {
        let [first, second] = ["first", "second"].map(|id| id.parse().unwrap());
        let mut listed = Listed::default();
        listed.ask(&first);
        let late = listed.turn;
        listed.answer(late, Ok(device(1)));
        assert_eq!(listed.devices, device(1));
        // Another account is shown.
        listed.ask(&first);
        let late = listed.turn;
        listed.ask(&second);
        assert!(listed.devices.is_empty());
        listed.answer(late, Ok(device(1)));
        assert!(listed.devices.is_empty());
        let now = listed.turn;
        listed.answer(now, Err(ApiError::internal("not now")));
        assert!(listed.error.is_some());
        listed.answer(late, Ok(device(1)));
        assert!(listed.devices.is_empty() && listed.error.is_some());
        listed.ask(&second);
        listed.answer(listed.turn, Ok(device(2)));
        assert_eq!((&listed.devices, &listed.error), (&device(2), &None));
        // The first question's error comes last.
        listed.answer(now, Err(ApiError::internal("not now")));
        assert_eq!(listed.error, None);
    }
}
