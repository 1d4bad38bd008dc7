//! DER in the two directions that X.509 needs, and no stricter than what lives in
//! the wild: Jami's certificates carry negative and padded serial numbers that
//! web-PKI parsers refuse.

/// Why bytes are not readable DER.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DerError {
    /// The bytes end inside an element, or an element claims more than its parent holds.
    #[error("the structure ends in the middle of an element")]
    Truncated,
    /// A length of indefinite form or of more than four bytes.
    #[error("a length is written in a form that DER does not have")]
    BadLength,
    /// A tag number above 30: nothing in X.509 has one.
    #[error("a tag is written in the long form")]
    BadTag,
    /// An element is not of the kind that belongs here.
    #[error("expected an element of tag {expected:#04x}, found {found:#04x}")]
    Unexpected {
        /// The tag that belongs here.
        expected: u8,
        /// The tag that is there.
        found: u8,
    },
    /// Something follows where the structure must end.
    #[error("{0} bytes follow the structure")]
    Trailing(usize),
    /// A time that is no UTCTime or GeneralizedTime in UTC, or does not exist.
    #[error("a time cannot be read")]
    BadTime,
    /// A value that cannot mean anything.
    #[error("the value of {0} cannot be read")]
    BadValue(&'static str),
}

pub(crate) const BOOLEAN: u8 = 0x01;
pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const OID: u8 = 0x06;
pub(crate) const UTF8_STRING: u8 = 0x0c;
pub(crate) const PRINTABLE_STRING: u8 = 0x13;
pub(crate) const IA5_STRING: u8 = 0x16;
pub(crate) const UTC_TIME: u8 = 0x17;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;
pub(crate) const SET: u8 = 0x31;
/// Context-specific, constructed, number 0.
pub(crate) const CONTEXT_0: u8 = 0xa0;
/// Context-specific, constructed, number 3: the extensions of a certificate.
pub(crate) const CONTEXT_3: u8 = 0xa3;

/// One element.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) value: &'a [u8],
    /// Tag, length and value.
    pub(crate) whole: &'a [u8],
}

impl<'a> Element<'a> {
    /// The elements inside.
    pub(crate) fn inside(self) -> Reader<'a> {
        Reader(self.value)
    }
}

/// Reads elements one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Fails unless everything was read.
    pub(crate) fn end(self) -> Result<(), DerError> {
        match self.0.len() {
            0 => Ok(()),
            n => Err(DerError::Trailing(n)),
        }
    }

    /// The tag of the next element, if there is one.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next element.
    pub(crate) fn next(&mut self) -> Result<Element<'a>, DerError> {
        let (&tag, rest) = self.0.split_first().ok_or(DerError::Truncated)?;
        if tag & 0x1f == 0x1f {
            return Err(DerError::BadTag);
        }
        let (&first, rest) = rest.split_first().ok_or(DerError::Truncated)?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (digits, rest) = rest
                    .split_at_checked(usize::from(first & 0x7f))
                    .ok_or(DerError::Truncated)?;
                let len = digits
                    .iter()
                    .fold(0u32, |len, b| (len << 8) | u32::from(*b));
                (usize::try_from(len).map_err(|_| DerError::BadLength)?, rest)
            }
            _ => return Err(DerError::BadLength),
        };
        let (value, rest) = rest.split_at_checked(len).ok_or(DerError::Truncated)?;
        let whole = self
            .0
            .get(..self.0.len().saturating_sub(rest.len()))
            .ok_or(DerError::Truncated)?;
        self.0 = rest;
        Ok(Element { tag, value, whole })
    }

    /// The next element, which must have this tag.
    pub(crate) fn expect(&mut self, expected: u8) -> Result<Element<'a>, DerError> {
        match self.peek() {
            None => Err(DerError::Truncated),
            Some(found) if found != expected => Err(DerError::Unexpected { expected, found }),
            Some(_) => self.next(),
        }
    }

    /// The next element if it has this tag.
    pub(crate) fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, DerError> {
        if self.peek() == Some(tag) {
            self.next().map(Some)
        } else {
            Ok(None)
        }
    }

    /// The next element, which must be a time: unix seconds, 0 for anything before 1970.
    pub(crate) fn time(&mut self) -> Result<u64, DerError> {
        let element = self.next()?;
        read_time(element.tag, element.value).ok_or(DerError::BadTime)
    }
}

/// An integer without the bytes that do not change it: two integers are equal when these are.
pub(crate) fn minimal_integer(mut bytes: &[u8]) -> &[u8] {
    while let [first, second, ..] = bytes {
        let redundant = match first {
            0x00 => *second < 0x80,
            0xff => *second >= 0x80,
            _ => false,
        };
        match bytes.split_first() {
            Some((_, rest)) if redundant => bytes = rest,
            _ => break,
        }
    }
    bytes
}

#[allow(
    clippy::arithmetic_side_effects,
    reason = "numbers of four digits at most, in days and seconds"
)]
fn read_time(tag: u8, text: &[u8]) -> Option<u64> {
    let text = text.strip_suffix(b"Z")?;
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |from: usize, len: usize| -> Option<i64> {
        let digits = text.get(from..from.checked_add(len)?)?;
        Some(digits.iter().fold(0, |n, d| n * 10 + i64::from(*d - b'0')))
    };
    let (year, at) = match tag {
        // RFC 5280, 4.1.2.5.1: two digits stand for 1950 to 2049.
        UTC_TIME => match number(0, 2)? {
            y @ 0..=49 => (2000 + y, 2),
            y => (1900 + y, 2),
        },
        GENERALIZED_TIME => (number(0, 4)?, 4),
        _ => return None,
    };
    let (month, day) = (number(at, 2)?, number(at + 2, 2)?);
    let (hour, minute) = (number(at + 4, 2)?, number(at + 6, 2)?);
    // Seconds may be missing in a UTCTime that is not DER.
    let second = match text.len() - at {
        8 if tag == UTC_TIME => 0,
        10 => number(at + 8, 2)?,
        _ => return None,
    };
    if !(1..=12).contains(&month)
        || !(1..=days_in_month(year, month)).contains(&day)
        || hour > 23
        || minute > 59
        || second > 59
    {
        return None;
    }
    let seconds = days_before(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(u64::try_from(seconds).unwrap_or(0))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if (year % 4 == 0 && year % 100 != 0) || year % 400 == 0 => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar: years begin in March, so
/// that the leap day is the last one.
#[allow(clippy::arithmetic_side_effects, reason = "of a year below 10,000")]
fn days_before(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month, day of a number of days after 1970-01-01.
#[allow(
    clippy::arithmetic_side_effects,
    reason = "2^64 seconds are less than 2^48 days"
)]
fn date_after(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// One element with the given content.
pub(crate) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = content.len();
    let mut out = vec![tag];
    if len < 0x80 {
        out.push(u8::try_from(len).unwrap_or(0));
    } else {
        let digits = len.to_be_bytes();
        let digits: Vec<u8> = digits.into_iter().skip_while(|b| *b == 0).collect();
        out.push(0x80 | u8::try_from(digits.len()).unwrap_or(0));
        out.extend(digits);
    }
    out.extend_from_slice(content);
    out
}

/// A SEQUENCE, SET or other container of finished elements.
pub(crate) fn container(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    element(tag, &parts.concat())
}

/// A time as RFC 5280 wants it: UTCTime up to 2049, GeneralizedTime from 2050 on.
pub(crate) fn time(unix: u64) -> Vec<u8> {
    let days = i64::try_from(unix / 86_400).unwrap_or(0);
    let (year, month, day) = date_after(days);
    let second = unix % 86_400;
    let clock = format!(
        "{month:02}{day:02}{:02}{:02}{:02}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    );
    if (1950..2050).contains(&year) {
        element(UTC_TIME, format!("{:02}{clock}", year % 100).as_bytes())
    } else {
        element(GENERALIZED_TIME, format!("{year:04}{clock}").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_times() {
        assert_eq!(time(1_767_225_600), element(UTC_TIME, b"260101000000Z"));
        assert_eq!(
            time(2_524_608_000),
            element(GENERALIZED_TIME, b"20500101000000Z")
        );
        assert_eq!(read_time(UTC_TIME, b"000229000000Z"), Some(951_782_400));
        assert_eq!(read_time(UTC_TIME, b"2601010000Z"), Some(1_767_225_600));
        // 1950 is before the epoch: as early as can be.
        assert_eq!(read_time(UTC_TIME, b"500101000000Z"), Some(0));
        for bad in [
            "010229000000Z",
            "001301000000Z",
            "000100000000Z",
            "000101240000Z",
            "000101006000Z",
            "000101000060Z",
            "0001010000000Z",
            "000101000000",
            "00010100000aZ",
            "Z",
        ] {
            assert_eq!(read_time(UTC_TIME, bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn integers_are_compared_by_value() {
        for (long, short) in [
            (&[0, 0, 1][..], &[1][..]),
            (&[0, 0x80], &[0, 0x80]),
            (&[0xff, 0xff, 0x80], &[0x80]),
            (&[0xff, 0x7f], &[0xff, 0x7f]),
            (&[0], &[0]),
            (&[], &[]),
        ] {
            assert_eq!(minimal_integer(long), short);
        }
    }

    #[test]
    fn lengths_beyond_the_bytes_cost_nothing() {
        assert_eq!(
            Reader(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]).next().err(),
            Some(DerError::Truncated)
        );
        assert_eq!(
            Reader(&[0x30, 0x80]).next().err(),
            Some(DerError::BadLength)
        );
        assert_eq!(Reader(&[0x1f, 0x80]).next().err(), Some(DerError::BadTag));
        assert_eq!(Reader(&[0x30]).next().err(), Some(DerError::Truncated));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(content in proptest::collection::vec(0u8..2, 0..700)) {
            let der = element(OCTET_STRING, &content);
            let mut reader = Reader(&der);
            let read = reader.next().unwrap();
            prop_assert_eq!(read.value, &content[..]);
            prop_assert_eq!(read.whole, &der[..]);
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn times_round_trip(unix in 0u64..253_402_300_800) {
            let der = time(unix);
            prop_assert_eq!(Reader(&der).time(), Ok(unix));
        }
    }
}
