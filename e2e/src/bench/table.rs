//! What was measured, what it should be, and what others need for it.

use serde_json::{Value, json};

/// What a figure should be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Aim {
    /// At least that.
    AtLeast(f64),
    /// At most that.
    AtMost(f64),
}

/// One figure.
#[derive(Debug)]
pub(crate) struct Row {
    what: String,
    unit: &'static str,
    value: Result<f64, String>,
    beside: Vec<(String, f64)>,
    aim: Option<Aim>,
}

impl Row {
    /// A figure that was taken.
    pub(crate) fn new(what: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            what: what.into(),
            unit,
            value: Ok(value),
            beside: Vec::new(),
            aim: None,
        }
    }

    /// A figure that could not be taken, and why.
    pub(crate) fn missing(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            unit: "",
            value: Err(why.into()),
            beside: Vec::new(),
            aim: None,
        }
    }

    /// The same of somebody else, in the same unit.
    pub(crate) fn beside(mut self, who: impl Into<String>, value: f64) -> Self {
        self.beside.push((who.into(), value));
        self
    }

    /// What it should be.
    pub(crate) fn aim(mut self, aim: Aim) -> Self {
        self.aim = Some(aim);
        self
    }

    /// Whether it is what it should be; nothing where there is no aim or no figure.
    fn met(&self) -> Option<bool> {
        let value = *self.value.as_ref().ok()?;
        Some(match self.aim? {
            Aim::AtLeast(least) => value >= least,
            Aim::AtMost(most) => value <= most,
        })
    }

    fn cells(&self) -> [String; 5] {
        let shown = |v: f64| format!("{} {}", short(v), self.unit);
        [
            self.what.clone(),
            match &self.value {
                Ok(v) => shown(*v),
                Err(why) => format!("not measured: {why}"),
            },
            self.beside
                .iter()
                .map(|(who, v)| format!("{who} {}", short(*v)))
                .collect::<Vec<_>>()
                .join(", "),
            match self.aim {
                Some(Aim::AtLeast(v)) => format!("≥ {}", short(v)),
                Some(Aim::AtMost(v)) => format!("≤ {}", short(v)),
                None => String::new(),
            },
            match self.met() {
                Some(true) => "met",
                Some(false) => "MISSED",
                None => "",
            }
            .to_owned(),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "what": self.what,
            "value": self.value.as_ref().ok(),
            "notMeasured": self.value.as_ref().err(),
            "unit": self.unit,
            "beside": self.beside.iter().map(|(who, v)| json!({"who": who, "value": v})).collect::<Vec<_>>(),
            "aim": match self.aim {
                Some(Aim::AtLeast(v)) => json!({"atLeast": v}),
                Some(Aim::AtMost(v)) => json!({"atMost": v}),
                None => Value::Null,
            },
            "met": self.met(),
        })
    }
}

/// Three digits that matter, or all before the point.
fn short(v: f64) -> String {
    let digits = match v.abs() {
        a if a >= 100.0 => 0,
        a if a >= 10.0 => 1,
        a if a >= 1.0 => 2,
        _ => 3,
    };
    format!("{v:.digits$}")
}

/// The table as people read it.
pub(crate) fn print(rows: &[Row]) {
    let head = ["figure", "Starling", "beside it", "aim", ""].map(String::from);
    let cells: Vec<[String; 5]> = std::iter::once(head)
        .chain(rows.iter().map(Row::cells))
        .collect();
    let mut widths = [0; 5];
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            // What was not measured may be long.
            if !cell.starts_with("not measured") {
                *width = cell.chars().count().max(*width);
            }
        }
    }
    for row in &cells {
        let line: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        println!("| {} |", line.join(" | "));
    }
}

/// The table as programs read it.
pub(crate) fn json(rows: &[Row]) -> Value {
    rows.iter().map(Row::json).collect()
}

/// Of a sorted list: the value that `p` of a hundred are not above.
pub(crate) fn percentile(sorted: &[f64], p: usize) -> f64 {
    let at = (sorted.len() * p).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// Sorts, and gives the median and the 95th percentile.
pub(crate) fn p50_p95(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    (percentile(&values, 50), percentile(&values, 95))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aim_is_met_or_missed() {
        let row = Row::new("x", 5.0, "s");
        assert_eq!(row.met(), None);
        assert_eq!(row.aim(Aim::AtMost(5.0)).met(), Some(true));
        assert_eq!(
            Row::new("x", 5.0, "s").aim(Aim::AtLeast(5.1)).met(),
            Some(false)
        );
        assert_eq!(Row::missing("x", "y").aim(Aim::AtLeast(5.1)).met(), None);
    }

    #[test]
    fn percentiles_are_values_that_were_seen() {
        assert_eq!(p50_p95((1..=100).map(f64::from).collect()), (50.0, 95.0));
        assert_eq!(p50_p95(vec![3.0]), (3.0, 3.0));
        assert!(p50_p95(Vec::new()).0.is_nan());
    }
}
