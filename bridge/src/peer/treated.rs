//! Which requests were treated: the DHT repeats what its nodes still hold, also after a restart.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// How many are remembered. A value lives ten minutes, so this bounds requests to seven a second.
const MAX_TREATED: usize = 4096;

/// The newest treated requests, each by a short text.
#[derive(Debug)]
pub(super) struct Treated {
    path: PathBuf,
    order: VecDeque<String>,
    known: BTreeSet<String>,
    /// Lines in the file, which is rewritten when it has twice as many as are remembered.
    lines: usize,
}

impl Treated {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let text = match std::fs::read(path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(e),
        };
        let mut treated = Self {
            path: path.to_owned(),
            order: VecDeque::new(),
            known: BTreeSet::new(),
            lines: text.lines().count(),
        };
        for line in text.lines() {
            treated.remember(line.to_owned());
        }
        Ok(treated)
    }

    /// Whether this is the first time; remembers it.
    pub(super) fn first_time(&mut self, key: &str) -> bool {
        if !self.remember(key.to_owned()) {
            return false;
        }
        if let Err(e) = self.write(key) {
            // A repetition after a restart costs one needless attempt.
            tracing::warn!(path = %self.path.display(), error = %e, "treated requests are not written");
        }
        true
    }

    fn remember(&mut self, key: String) -> bool {
        if !self.known.insert(key.clone()) {
            return false;
        }
        self.order.push_back(key);
        if self.order.len() > MAX_TREATED
            && let Some(old) = self.order.pop_front()
        {
            self.known.remove(&old);
        }
        true
    }

    fn write(&mut self, key: &str) -> io::Result<()> {
        self.lines += 1;
        if self.lines <= 2 * MAX_TREATED {
            let mut file = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(&self.path)?;
            return writeln!(file, "{key}");
        }
        let directory = self.path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        for key in &self.order {
            writeln!(file, "{key}")?;
        }
        file.persist(&self.path)?;
        self.lines = self.order.len();
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_was_treated_stays_so_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("treated");
        let mut treated = Treated::open(&path).unwrap();
        assert!(treated.first_time("a"));
        assert!(!treated.first_time("a"));
        let mut treated = Treated::open(&path).unwrap();
        assert!(!treated.first_time("a"));
        for i in 0..3 * MAX_TREATED {
            assert!(treated.first_time(&i.to_string()));
        }
        // The file does not grow for ever, and the oldest is forgotten.
        assert!(Treated::open(&path).unwrap().order.len() <= MAX_TREATED);
        assert!(treated.lines <= 2 * MAX_TREATED);
        assert!(treated.first_time("a"));
    }
}
