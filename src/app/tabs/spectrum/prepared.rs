//! [`Prepared`]: what the tab draws, computed when the spectra change and not in every frame.

use std::collections::HashMap;
use std::sync::Arc;

use crate::app::shared::names::{common_prefix, without};
use crate::app::widgets::text::middle;

use crate::figure::{Axis, Figure, Mark, Series, Style};
use crate::spectrum::{Rule, RuleId, Spectrum, rule_rank};
use crate::workspace::Workspace;

/// A curve is drawn with this many points at most; what is stored and exported is not thinned.
const POINTS: usize = 1200;
/// A legend of more lines would hide the curves; their names are under the pointer.
const LEGEND: usize = 3;
/// Letters of a name in a legend.
const LONGEST: usize = 32;
/// So many chosen modules are drawn beside the current one.
const OVERLAYS: usize = 8;

/// Plots, rules and the ranks of all modules, as of the newest spectra.
#[derive(Default)]
pub struct Prepared {
    key: Vec<(String, usize)>,
    /// How many of the chosen modules have spectra: the rules speak of all of them.
    known: usize,
    log_x: bool,
    /// σ of the chosen modules, the current one last.
    pub sigma: Figure,
    /// Cumulative energy of the same.
    pub energy: Figure,
    /// The table of rules for the current module, with what they ask for over all chosen ones.
    pub rules: Vec<Rule>,
    ranks: HashMap<String, (usize, Option<usize>)>,
    rule: Option<RuleId>,
    generation: u64,
}

impl Prepared {
    /// Follows the workspace.
    pub fn update(&mut self, workspace: &Workspace, log_x: bool, rule: RuleId) {
        let chosen = chosen(workspace);
        let key: Vec<(String, usize)> = chosen.iter().map(|(name, s)| ((*name).to_owned(), place(s))).collect();
        let all: Vec<&Spectrum> =
            workspace.selection().names().iter().filter_map(|name| Some(&**workspace.latest(name)?)).collect();
        if key != self.key || log_x != self.log_x || self.known != all.len() {
            self.known = all.len();
            self.log_x = log_x;
            self.key = key;
            self.sigma = sigma(&chosen, log_x);
            self.energy = energy(&chosen, log_x);
            self.rules = chosen.last().map(|(_, s)| over(s.rules(), &all)).unwrap_or_default();
        }
        if self.generation != workspace.generation() || self.rule != Some(rule) {
            self.generation = workspace.generation();
            self.rule = Some(rule);
            self.ranks.clear();
        }
        let Some(delta) = workspace.delta() else { return };
        for entry in delta.entries() {
            if let Some(spectrum) = workspace.latest(&entry.name) {
                let at = place(spectrum);
                if self.ranks.get(&entry.name).is_none_or(|known| known.0 != at) {
                    self.ranks.insert(entry.name.clone(), (at, rule_rank(spectrum, rule)));
                }
            }
        }
    }

    /// σ with the energy beside it, complete: what is saved.
    pub fn both(&self) -> Figure {
        let mut figure = self.sigma.clone();
        figure.series.extend(self.energy.series.iter().map(|s| {
            let name = format!("energy of {}", s.name);
            Series { name, style: Style::Dashed, ..s.clone() }
        }));
        figure
    }

    /// The ranks that the map's rule asks for, where they are known, in the order of names.
    pub fn ranked(&self) -> Vec<(String, usize)> {
        let known = self.ranks.iter().filter_map(|(name, (_, rank))| Some((name.clone(), (*rank)?)));
        let mut known: Vec<(String, usize)> = known.collect();
        known.sort_by(|a, b| natord::compare(&a.0, &b.0));
        known
    }

    /// The rank that the map's rule asks for; the outer `None`: not computed, the inner one: cannot be known.
    pub fn rank(&self, name: &str) -> Option<Option<usize>> {
        self.ranks.get(name).map(|known| known.1)
    }
}

/// Rules of the current module that say first what they ask for over all chosen ones.
fn over(mut rules: Vec<Rule>, all: &[&Spectrum]) -> Vec<Rule> {
    for rule in &mut rules {
        let mut ranks: Vec<usize> = all.iter().filter_map(|spectrum| rule_rank(spectrum, rule.id)).collect();
        ranks.sort_unstable();
        if let [least, .., most] = ranks[..] {
            let (middle, count) = (ranks[ranks.len() / 2], ranks.len());
            rule.meaning = format!("{least} to {most}, median {middle}, over {count} chosen modules. {}", rule.meaning);
        }
    }
    rules
}

/// Tells one spectrum from another.
fn place(spectrum: &Arc<Spectrum>) -> usize {
    Arc::as_ptr(spectrum) as usize
}

fn chosen(workspace: &Workspace) -> Vec<(&str, &Arc<Spectrum>)> {
    let names = workspace.selection().names();
    let first = names.len().saturating_sub(OVERLAYS);
    names[first..].iter().filter_map(|name| Some((name.as_str(), workspace.latest(name)?))).collect()
}

fn figure(
    title: &str,
    y: Axis,
    log_x: bool,
    chosen: &[(&str, &Arc<Spectrum>)],
    curve: fn(&Spectrum) -> Vec<f64>,
) -> Figure {
    let label = "index i";
    let x = if log_x { Axis::log(label) } else { Axis::linear(label) };
    let title = match chosen {
        [(name, _)] => format!("{title} of {name}"),
        _ => title.to_owned(),
    };
    let mut figure = Figure { title, x, y, ..Figure::default() };
    let prefix = common_prefix(chosen.iter().map(|(name, _)| *name));
    for (i, (name, spectrum)) in chosen.iter().enumerate() {
        // The current module keeps its colour whatever else is chosen.
        let color = chosen.len() - 1 - i;
        let points = thinned(&curve(spectrum), log_x);
        let name = match chosen.len() {
            1 => short(name),
            _ => without(name, prefix),
        };
        figure.series.push(Series::line(middle(name, LONGEST), points).style(Style::LinePoints).color(color));
    }
    figure
}

fn sigma(chosen: &[(&str, &Arc<Spectrum>)], log_x: bool) -> Figure {
    let mut figure = figure("Singular values", Axis::log("strength σ"), log_x, chosen, |s| s.sigma.clone());
    figure.quiet = chosen.len() > LEGEND;
    if let Some((_, spectrum)) = chosen.last()
        && let Some(edge) = spectrum.rounding_edge().filter(|&edge| edge > 0.0)
    {
        figure.marks.push(Mark { name: "rounding edge".into(), at: edge, vertical: false });
    }
    figure
}

fn energy(chosen: &[(&str, &Arc<Spectrum>)], log_x: bool) -> Figure {
    let curve = |s: &Spectrum| s.energy_curve().split_off(1);
    Figure { quiet: true, ..figure("Cumulative energy", Axis::linear("energy E(i)"), log_x, chosen, curve) }
}

/// `[index, value]` from 1, all of a short curve, evenly chosen points (on the axis they are drawn on) of a long one.
fn thinned(values: &[f64], log_x: bool) -> Vec<[f64; 2]> {
    let n = values.len();
    let point = |i: usize| [(i + 1) as f64, values[i]];
    if n <= POINTS {
        return (0..n).map(point).collect();
    }
    let mut points = Vec::with_capacity(POINTS);
    let mut last = None;
    for k in 0..POINTS {
        let t = k as f64 / (POINTS - 1) as f64;
        let index = if log_x { (n as f64).powf(t) - 1.0 } else { t * (n - 1) as f64 };
        let i = (index.round() as usize).min(n - 1);
        if last != Some(i) {
            points.push(point(i));
            last = Some(i);
        }
    }
    points
}

/// `layers.3.self_attn.q_proj` for `model.layers.3.self_attn.q_proj`.
fn short(name: &str) -> &str {
    name.strip_prefix("model.").or_else(|| name.strip_prefix("transformer.")).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_curves_keep_their_ends() {
        let values: Vec<f64> = (0..10_000).map(f64::from).collect();
        for log_x in [false, true] {
            let points = thinned(&values, log_x);
            assert!(points.len() <= POINTS && points.len() > POINTS / 2);
            assert_eq!(points[0], [1.0, 0.0]);
            assert_eq!(points[points.len() - 1], [10_000.0, 9_999.0]);
            assert!(points.windows(2).all(|w| w[0][0] < w[1][0]));
        }
        assert_eq!(thinned(&[5.0, 3.0], true), [[1.0, 5.0], [2.0, 3.0]]);
    }
}
