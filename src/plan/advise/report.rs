//! Advice as a page of the HTML report.

use super::Advice;
use crate::figure::html::{Piece, Report};
use crate::units::{bytes, count, duration, exact};
use std::time::Duration;

/// Adds its sections.
pub fn section(report: &mut Report, advice: &Advice) {
    let [low, high] = advice.range;
    let [slow, fast] = advice.lr_range;
    let mut pieces = vec![Piece::Text(advice.sentence())];
    let mut rows = vec![vec!["what".to_owned(), "answer".to_owned(), "range".to_owned()]];
    rows.push(vec!["rank r".into(), advice.r.to_string(), format!("{low} to {high}")]);
    rows.push(vec![
        "α".into(),
        format!("{}{}", advice.alpha, if advice.rslora { " (rsLoRA)" } else { "" }),
        String::new(),
    ]);
    rows.push(vec!["learning rate".into(), format!("{:.0e}", advice.lr), format!("{slow:.0e} to {fast:.0e}")]);
    rows.push(vec!["modules".into(), advice.targets.clone(), String::new()]);
    rows.push(vec!["trained numbers".into(), exact(advice.trainable), String::new()]);
    if let Some(need) = advice.bytes {
        rows.push(vec!["memory".into(), bytes(need), String::new()]);
    }
    pieces.push(Piece::table(rows));
    report.section("Which rank", pieces);
    for why in &advice.why {
        let mut pieces =
            vec![Piece::Text(why.says.clone()), Piece::Text(format!("{}. Source: {}.", why.value, why.source))];
        pieces.extend(why.figure.as_ref().map(|figure| Piece::Drawing(figure.svg(720.0, 300.0))));
        report.section(format!("{} (weight {:.2})", why.title, why.weight), pieces);
    }
    let open = advice.uncertain.iter().map(|one| Piece::Text(format!("{} {}", one.what, one.cost())));
    report.section("What is not known, and what it costs to find out", open.collect());
}

impl Advice {
    /// The answer in a sentence.
    pub fn sentence(&self) -> String {
        let [low, high] = self.range;
        let data = self.tokens.map_or_else(String::new, |tokens| format!(" for {} answer tokens", count(tokens)));
        format!(
            "Take r = {} on {} with α = {}{} and a learning rate of {:.0e}: {} numbers to train{data}. Any rank from {low} to {high} may do as well.",
            self.r,
            self.targets,
            self.alpha,
            if self.rslora { " under rsLoRA" } else { "" },
            self.lr,
            count(self.trainable),
        )
    }
}

impl super::Uncertain {
    /// How it is found out, and how long that takes.
    pub fn cost(&self) -> String {
        let Some([low, high]) = self.seconds else { return format!("It takes {}.", self.how) };
        let time = |seconds: f64| duration(Duration::from_secs_f64(seconds.clamp(0.0, 3e9)));
        format!("It takes {}: {} to {} here.", self.how, time(low), time(high))
    }
}
