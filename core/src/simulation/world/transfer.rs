//! Fetches: asked for, under way, arrived, judged.

use super::{BYTES_PER_MS, Event, Fetching, SILENCE, World, pair};
use crate::id::ObjectId;
use crate::simulation::config::Broken;
use crate::simulation::hostile::Hostile;
use crate::simulation::replica::Judged;
use crate::swarm::merge::Relation;
use crate::swarm::misbehaviour::Misbehaviour;
use crate::swarm::spread::Ended;
use core::time::Duration;

impl World {
    pub(super) fn begin_fetch(&mut self, n: usize, of: usize) {
        self.fetch += 1;
        let id = self.fetch;
        self.log(|| format!("{} asks {}", self.name(n), self.name(of)));
        if self.devs[n].honest() {
            self.counts.fetches += 1;
        }
        self.devs[n]
            .fetching
            .insert(of, Fetching { id, coming: None });
        if !self.links.contains_key(&pair(n, of)) {
            return self.after(Duration::from_millis(1), Event::Refusal(n, of, id));
        }
        self.after(SILENCE, Event::Silence(n, of, id));
        // Opening the channel is a round trip by itself.
        let open = self.latency(n, of) * 2;
        let Some(link) = self.links.get(&pair(n, of)).copied() else {
            return;
        };
        let wait = open + self.latency(n, of);
        self.after(wait, Event::Ask(n, of, link, id));
    }

    pub(super) fn fetch_is(&self, by: usize, of: usize, fetch: u64) -> bool {
        self.devs[by]
            .fetching
            .get(&of)
            .is_some_and(|f| f.id == fetch)
    }

    /// Counts attempts that brought nothing.
    pub(super) fn count_end(&mut self, by: usize, of: usize, brought: bool) {
        if !self.devs[by].ours() {
            return;
        }
        let id = self.devs[of].replica.device.id;
        let spread = self.devs[by].spread.as_ref();
        let looks = spread.is_some_and(|s| s.looks_at(&id));
        let counts = &mut self.counts;
        for (counted, this) in [(&mut counts.in_vain, !looks), (&mut counts.looked, looks)] {
            let entry = counted.entry((by, of)).or_default();
            entry.0 = if brought {
                0
            } else {
                entry.0 + usize::from(this)
            };
            entry.1 = entry.1.max(entry.0);
        }
    }

    pub(super) fn end_fetch(&mut self, by: usize, of: usize, how: Ended) {
        self.devs[by].fetching.remove(&of);
        let brought = matches!(how, Ended::Well { relation, .. } if relation != Relation::UpToDate);
        self.count_end(by, of, brought);
        let (id, now) = (self.devs[of].replica.device.id, self.now);
        if self.devs[by].daemon.is_some() {
            return self.daemon_fetched(by, of, how);
        }
        if let Some(spread) = &mut self.devs[by].spread {
            spread.fetched(id, how, now);
        }
        if let Ended::Well { head, relation } = how {
            if relation == Relation::UpToDate {
                self.has_shown(by, of, head);
            } else if self.config.daemons > 0 {
                self.devs[by].brought.insert(head, of);
            }
        }
        self.drain(by);
    }

    /// A device is asked for what it has.
    pub(super) fn asked(&mut self, by: usize, of: usize, link: u64, fetch: u64) {
        if self.links.get(&pair(by, of)) != Some(&link)
            || !self.fetch_is(by, of, fetch)
            || self.daemon_has_it(by, of)
        {
            return;
        }
        let client = self.devs[by].replica.device;
        let dev = &self.devs[of];
        let head = match &dev.hostile {
            Some(Hostile::Silent) => return,
            Some(hostile) => hostile.offers().or(dev.replica.head),
            None if dev.replica.may_fetch(client) => dev.replica.head,
            None => None,
        };
        let wait = self.latency(by, of);
        let Some(head) = head else {
            return self.after(wait, Event::Refusal(by, of, fetch));
        };
        let client = &self.devs[by];
        let (coming, lacking) =
            self.pool
                .missing(&head, &self.devs[of].replica.have, &client.replica.have);
        if lacking && self.devs[of].honest() {
            self.wrong
                .push(format!("{} lacks objects of its head", self.name(of)));
        }
        let mut coming: Vec<u32> = coming
            .into_iter()
            .filter(|n| !client.staged.has(*n))
            .collect();
        let drips = self.devs[of].hostile == Some(Hostile::Drips) && coming.len() > 1;
        if drips {
            coming.truncate(1);
        }
        let bytes: u64 = coming.iter().map(|n| self.pool.size(*n) as u64).sum();
        self.counts.bytes += bytes;
        let mut takes = wait + wait * 2 + Duration::from_millis(bytes / BYTES_PER_MS);
        if self.devs[of].hostile == Some(Hostile::Slow) {
            takes = takes.max(SILENCE * 9 / 10);
        }
        if drips {
            takes = self.rng.ms(100, 20_000);
        }
        let now = self.now;
        if let Some(fetching) = self.devs[by].fetching.get_mut(&of) {
            fetching.coming = Some((coming, now, takes));
        }
        // While it comes, others wait.
        let id = self.devs[of].replica.device.id;
        if let Some(spread) = self.devs[by].spread.as_mut().filter(|_| bytes > 0) {
            spread.gets_on(&id, bytes, now);
        }
        if drips {
            self.after(takes, Event::BreaksOff(by, of, fetch));
        } else if self.config.loss > 0 && self.rng.permille(self.config.loss) {
            // It breaks on the way.
            let part = takes.mul_f64(self.rng.below(100) as f64 / 100.0);
            self.after(part, Event::Arrived(by, of, 0, fetch, head));
        } else {
            self.after(takes, Event::Arrived(by, of, link, fetch, head));
        }
    }

    /// A fetch breaks off, and the link stays.
    pub(super) fn breaks_off(&mut self, by: usize, of: usize, fetch: u64) {
        if self.fetch_is(by, of, fetch)
            && let Some(fetching) = self.devs[by].fetching.remove(&of)
        {
            let progressed = self.keep_part(by, fetching);
            self.end_fetch(by, of, Ended::Failed { progressed });
        }
    }

    pub(super) fn arrived(&mut self, by: usize, of: usize, link: u64, fetch: u64, head: ObjectId) {
        if !self.fetch_is(by, of, fetch) {
            return;
        }
        if self.links.get(&pair(by, of)) != Some(&link) {
            return self.cut(by, of);
        }
        let Some(Fetching {
            coming: Some((coming, ..)),
            ..
        }) = self.devs[by].fetching.remove(&of)
        else {
            return;
        };
        let mut quarantine = self.devs[by].staged.clone();
        for n in &coming {
            quarantine.add(*n);
        }
        self.log(|| format!("{} has {head:.8} from {}", self.name(by), self.name(of)));
        let how = match self.devs[by].replica.judge(&self.pool, &quarantine, head) {
            Judged::Bad(fault) => {
                let name = fault.misbehaviour.name();
                self.log(|| {
                    let (by, of) = (self.name(by), self.name(of));
                    format!("{by} refuses {head:.8} of {of}: {name}: {fault}")
                });
                if self.devs[by].honest() && self.devs[of].honest() {
                    self.wrong.push(format!(
                        "{} refuses {head} of {}, which is honest: {fault}",
                        self.name(by),
                        self.name(of)
                    ));
                }
                *self.counts.refused.entry(name).or_default() += 1;
                match *fault.misbehaviour {
                    // It did not send all: the head may be good.
                    Misbehaviour::MissingObject(_) => Ended::Bad,
                    _ => Ended::Refused(head),
                }
            }
            Judged::Good(relation) => {
                // What is named by the head and came earlier belongs to it.
                let (all, _) = self
                    .pool
                    .missing(&head, &quarantine, &self.devs[by].replica.have);
                let mut power = Self::power(&mut self.rng, &mut self.counts.writes, &self.config);
                let kept = self.devs[by].replica.accept(&mut power, &all);
                drop(power);
                if kept.is_err() {
                    return self.crash(by);
                }
                // Another fetch may count on what is there.
                if self.devs[by].fetching.is_empty() && self.config.broken != Broken::KeepsParts {
                    self.devs[by].staged.clear();
                }
                let taker = self.devs[by].replica.device.id;
                if let Some(spread) = &mut self.devs[of].spread {
                    spread.took(&taker, head, self.now);
                }
                self.has_shown(of, by, head);
                Ended::Well { head, relation }
            }
        };
        self.end_fetch(by, of, how);
    }
}
