//! Runs laid over each other: losses, and the spectra of what they changed.

use std::path::PathBuf;

use eframe::egui::{self, Button, ComboBox, DragValue, Rect, RichText, ScrollArea, Sense, Ui, vec2};

use super::View;
use super::state::{Action, Track, Training, method_name, smoothed};
use crate::app::look::theme::Colors;
use crate::app::shared::{blank, layout};

use crate::app::look::palette;
use crate::app::widgets::menu::Take;
use crate::app::widgets::table::{Entry, Head, Order, Table};
use crate::app::work::export::Source;
use crate::figure::{Axis, Figure, Series, Style, number};
use crate::train::Method;
use crate::train::film::{effective, energy_rank};
use crate::units;

use super::plots::columns;
use super::prepared::thin;

/// Height of the losses.
const LOSSES: f32 = 260.0;
/// Height of the spectra.
const SPECTRA: f32 = 260.0;
/// Steps that smoothing looks back.
const WINDOW: f64 = 20.0;

const HEADS: [Head<'static>; 11] = [
    head("run", "Its folder's name", false, 190.0),
    head("method", "LoRA, QLoRA or full", false, 60.0),
    head("r", "Rank", true, 36.0),
    head("lr", "Peak learning rate", true, 60.0),
    head("trained", "Elements that are trained", true, 70.0),
    head("loss", "Of the last step, smoothed", true, 64.0),
    head("held out", "The last loss on held-out rows", true, 70.0),
    head("forgot", "Loss on text of the base's own kind, after less before", true, 60.0),
    head("tokens/s", "Over the last steps", true, 70.0),
    head("memory", "Weights, everything trained and buffers at their most", true, 76.0),
    head("90 % / 99 %", "Directions of the chosen module's ΔW that hold so much of its energy", true, 90.0),
];

const fn head(title: &'static str, tip: &'static str, number: bool, width: f32) -> Head<'static> {
    Head { title, tip, number, width }
}

/// What the comparison remembers between frames.
#[derive(Default)]
pub struct Compare {
    key: Vec<(PathBuf, u64)>,
    made: Option<(bool, String)>,
    by_time: bool,
    module: String,
    modules: Vec<String>,
    train: Figure,
    held_out: Figure,
    spectra: Figure,
    energy: Figure,
    /// Held-out loss against what was forgotten; empty where no run has measured it.
    forgetting: Figure,
    /// Runs that differ in nothing but the seed, together; empty where there are none.
    seeds: Vec<Together>,
    over_seeds: Figure,
    order: Order,
}

impl Compare {
    /// Follows the runs that are compared.
    pub fn logic(&mut self, training: &Training) {
        let tracks: Vec<&Track> = training.compared().collect();
        let key: Vec<_> = tracks.iter().map(|track| (track.folder.clone(), track.version)).collect();
        let look = (self.by_time, self.module.clone());
        if key == self.key && self.made.as_ref() == Some(&look) {
            return;
        }
        let mut modules: Vec<String> = Vec::new();
        for name in tracks.iter().filter_map(|track| track.frames.last()).flat_map(|frame| frame.modules.keys()) {
            if !modules.contains(name) {
                modules.push(name.clone());
            }
        }
        modules.sort_by(|a, b| natord::compare(a, b));
        // First what all of them have changed: there the spectra can be laid over each other.
        let all = |name: &String| {
            tracks.iter().all(|track| track.frames.last().is_none_or(|frame| frame.modules.contains_key(name)))
        };
        if !self.modules.contains(&self.module) || !modules.contains(&self.module) {
            self.module = modules.iter().find(|name| all(name)).or(modules.first()).cloned().unwrap_or_default();
        }
        self.modules = modules;
        self.key = key;
        self.made = Some((self.by_time, self.module.clone()));
        self.train = thin(self.losses(&tracks, false));
        self.held_out = self.losses(&tracks, true);
        self.spectra = self.spectra_of(&tracks, false);
        self.energy = self.spectra_of(&tracks, true);
        self.forgetting = forgetting(training, &tracks);
        self.seeds = together(&tracks);
        self.over_seeds = over_seeds(&self.seeds);
    }

    fn losses(&self, tracks: &[&Track], held_out: bool) -> Figure {
        let x = Axis::linear(if self.by_time { "seconds of training" } else { "step" });
        let title = if held_out { "Loss on held-out rows" } else { "Training loss, smoothed" };
        let mut figure = Figure { title: title.into(), x, ..Figure::default() };
        let names = names(tracks);
        for (color, track) in tracks.iter().enumerate() {
            let losses: Vec<f64> = if held_out {
                track.records.iter().map(|record| record.eval_loss.unwrap_or(f64::NAN)).collect()
            } else {
                smoothed(track.records.iter().map(|record| record.step.loss), WINDOW)
            };
            let x = |i: usize| if self.by_time { track.seconds[i] } else { track.records[i].step.step as f64 };
            let points = losses.iter().enumerate().filter(|(_, loss)| loss.is_finite()).map(|(i, &loss)| [x(i), loss]);
            let style = if held_out { Style::LinePoints } else { Style::Line };
            figure.series.push(Series::line(&names[color], points.collect()).style(style).color(color));
        }
        let losses = figure.series.iter().flat_map(|series| series.points.iter().map(|point| point[1]));
        figure.y = Axis::of_losses("loss", losses);
        figure
    }

    /// σ, or the energy of the first directions, of the chosen module as each run left it.
    fn spectra_of(&self, tracks: &[&Track], energy: bool) -> Figure {
        let (title, y) = match energy {
            true => ("Cumulative energy", Axis::linear("energy E(i)")),
            false => ("Singular values of ΔW", Axis::log("strength σ")),
        };
        let title = format!("{title} of {}", self.module);
        let mut figure = Figure { title, x: Axis::log("index i"), y, quiet: energy, ..Figure::default() };
        let names = names(tracks);
        for (color, track) in tracks.iter().enumerate() {
            let Some(sigma) = track.frames.last().and_then(|frame| frame.modules.get(&self.module)) else { continue };
            let total: f64 = sigma.iter().map(|&s| f64::from(s).powi(2)).sum();
            let mut sum = 0.0;
            let value = |&s: &f32| {
                sum += f64::from(s).powi(2);
                if energy { sum / total.max(f64::MIN_POSITIVE) } else { f64::from(s) }
            };
            let points: Vec<[f64; 2]> =
                sigma.iter().map(value).enumerate().map(|(i, value)| [(i + 1) as f64, value]).collect();
            let points = points.into_iter().filter(|point| point[1] > 0.0).collect();
            figure.series.push(Series::line(&names[color], points).style(Style::LinePoints).color(color));
        }
        figure
    }

    /// Paints it.
    pub fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        methods(ui, view);
        ui.add_space(4.0);
        self.choice(ui, view);
        let state = view.state;
        let tracks: Vec<&Track> = state.compared().collect();
        if tracks.is_empty() {
            return nothing(ui, view);
        }
        ScrollArea::vertical().id_salt("compare").auto_shrink(false).show(ui, |ui| {
            ui.horizontal(|ui| {
                ui.label(RichText::new("Across").color(Colors::of(ui).weak));
                let steps = ui.selectable_value(&mut self.by_time, false, "steps").clicked();
                if ui.selectable_value(&mut self.by_time, true, "time").clicked() || steps {
                    ui.ctx().request_repaint();
                }
            });
            columns(ui, LOSSES, |ui, index| match index {
                0 => plot(ui, view, "Training loss, smoothed", &self.train),
                _ => plot(ui, view, "Loss on held-out rows", &self.held_out),
            });
            ui.add_space(6.0);
            let forgot = !self.forgetting.series.is_empty();
            if forgot || !self.seeds.is_empty() {
                if let Some(text) = verdict(&self.seeds) {
                    ui.label(RichText::new(text).strong());
                }
                let shown: Vec<(&str, &Figure)> = [("Over seeds", &self.over_seeds), ("Learning and forgetting", &self.forgetting)]
                    .into_iter()
                    .filter(|(_, figure)| !figure.series.is_empty())
                    .collect();
                columns(ui, LOSSES, |ui, index| {
                    if let Some((name, figure)) = shown.get(index) {
                        plot(ui, view, name, figure);
                    }
                });
                ui.add_space(6.0);
            }
            if !forgot {
                let text = "What the runs forget is drawn here too, once they are trained with text of the base's own kind (Run, More settings, Forgetting is measured on).";
                ui.label(RichText::new(text).small().color(Colors::of(ui).weak));
                ui.add_space(6.0);
            }
            if !self.modules.is_empty() {
                ui.horizontal(|ui| {
                    ui.label(RichText::new("What each of them changed").text_style(egui::TextStyle::Heading));
                    let combo = ComboBox::from_id_salt("module").selected_text(&self.module).width(280.0).height(360.0);
                    let before = self.module.clone();
                    let combo = combo.show_ui(ui, |ui| {
                        for module in &self.modules {
                            ui.selectable_value(&mut self.module, module.clone(), module);
                        }
                    });
                    combo.response.accessible_name("Module to compare");
                    if self.module != before {
                        ui.ctx().request_repaint();
                    }
                });
                self.sentence(ui, &tracks);
                columns(ui, SPECTRA, |ui, index| match index {
                    0 => plot(ui, view, "Singular values of ΔW", &self.spectra),
                    _ => plot(ui, view, "Cumulative energy", &self.energy),
                });
            }
            ui.add_space(6.0);
            self.table(ui, view.state, &tracks);
        });
    }

    /// Which runs are compared; more can be added.
    fn choice(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        let training = view.state;
        let dark = ui.visuals().dark_mode;
        let mut asks = Vec::new();
        ui.horizontal_wrapped(|ui| {
            for (color, track) in training.compared().enumerate() {
                let (dot, _) = ui.allocate_exact_size(vec2(10.0, 10.0), Sense::hover());
                ui.painter().rect_filled(dot, 2.0, palette::series(color, dark));
                let button = ui.button(format!("{} ×", track.name())).on_hover_text("Take it away from the comparison");
                if button.accessible_name(format!("Do not compare {}", track.name())).clicked() {
                    asks.push(Action::Compare(track.folder.clone(), false));
                }
                ui.add_space(6.0);
            }
            let others: Vec<_> =
                training.runs().unwrap_or_default().iter().filter(|past| !training.is_compared(&past.folder)).collect();
            if !others.is_empty() {
                let combo = ComboBox::from_id_salt("add").selected_text("Add a run").width(120.0).height(360.0);
                let combo = combo.show_ui(ui, |ui| {
                    for past in others {
                        if ui.selectable_label(false, past.name()).clicked() {
                            asks.push(Action::Compare(past.folder.clone(), true));
                        }
                    }
                });
                combo.response.accessible_name("Add a run");
            }
        });
        asks.into_iter().for_each(|ask| view.actions.push(ask));
    }

    /// What the full run's ΔW says about LoRA's.
    fn sentence(&self, ui: &mut Ui, tracks: &[&Track]) {
        let sigma = |track: &Track| track.frames.last()?.modules.get(&self.module).cloned();
        let full = tracks.iter().find(|track| track.settings.method == Method::Full).and_then(|track| sigma(track));
        let pairs = tracks.iter().find(|track| track.settings.method != Method::Full);
        let Some((full, pairs)) = full.zip(pairs) else { return };
        let r = pairs.settings.rank;
        let total: f64 = full.iter().map(|&s| f64::from(s).powi(2)).sum();
        let kept: f64 = full.iter().take(r).map(|&s| f64::from(s).powi(2)).sum();
        ui.label(format!(
            "The full run spreads this module's ΔW over an effective rank of {}; its first {r} directions hold {} of the \
             energy. LoRA at rank {r} has {r} directions; the losses above show what is lost.",
            units::real(effective(&full), 3),
            units::percent(kept / total.max(f64::MIN_POSITIVE))
        ));
    }

    fn table(&mut self, ui: &mut Ui, training: &Training, tracks: &[&Track]) {
        let entry = |row: usize, column: usize| {
            let track = tracks[row];
            let s = &track.settings;
            let smooth = || smoothed(track.records.iter().map(|record| record.step.loss), WINDOW).last().copied();
            let eval = || track.records.iter().rev().find_map(|record| record.eval_loss);
            match column {
                0 => Entry::text(track.name()),
                1 => Entry::text(if track.described { method_name(s.method) } else { "" }).tip(track.made_by),
                2 => {
                    let known = track.described && s.method != Method::Full;
                    Entry::number(known.then_some(s.rank as f64), |r| format!("{r:.0}"))
                }
                3 => Entry::number(Some(s.lr), |lr| format!("{lr:.1e}")),
                4 => Entry::number((track.trainable > 0).then_some(track.trainable as f64), |n| units::count(n as u64)),
                5 => Entry::number(smooth(), |loss| number::whole(loss, 4)),
                6 => Entry::number(eval(), |loss| number::whole(loss, 4)),
                7 => {
                    let forgot = training.past(&track.folder).and_then(|past| past.forgetting);
                    Entry::number(forgot.map(|[before, after]| after - before), |off| number::signed(off, 3))
                }
                8 => Entry::number(track.speed(), |speed| format!("{speed:.0}")),
                9 => {
                    let held = track.records.iter().map(|record| record.held).max().filter(|&held| held > 0);
                    Entry::number(held.map(|held| held as f64), |held| units::bytes(held as u64))
                }
                _ => {
                    let sigma = track.frames.last().and_then(|frame| frame.modules.get(&self.module));
                    let text = sigma.map(|sigma| (energy_rank(sigma, 0.9), energy_rank(sigma, 0.99)));
                    Entry::number(text.map(|ranks| ranks.0 as f64), |_| {
                        text.map_or_else(String::new, |(a, b)| format!("{a} / {b}"))
                    })
                }
            }
        };
        let name = |row: usize| tracks[row].name();
        let table = Table {
            id: "compared",
            heads: &HEADS,
            rows: tracks.len(),
            entry: &entry,
            name: &name,
            selected: &|_| false,
        };
        let mut order = self.order;
        ui.allocate_ui(vec2(ui.available_width(), Table::height(ui, tracks.len())), |ui| table.ui(ui, &mut order));
        self.order = order;
    }
}

/// Runs of one kind, over their seeds.
#[derive(Clone, Debug, PartialEq)]
struct Together {
    name: String,
    trainable: usize,
    losses: Vec<f64>,
}

impl Together {
    fn mean(&self) -> f64 {
        self.losses.iter().sum::<f64>() / self.losses.len() as f64
    }

    /// How far the furthest seed is from the mean.
    fn spread(&self) -> f64 {
        self.losses.iter().map(|loss| (loss - self.mean()).abs()).fold(0.0, f64::max)
    }
}

/// Runs that differ in nothing but seed and folder; those with one seed alone are left out.
fn together(tracks: &[&Track]) -> Vec<Together> {
    let mut kinds: Vec<(crate::train::Settings, Together)> = Vec::new();
    for (track, name) in tracks.iter().zip(names(tracks)) {
        let Some(loss) = track.records.iter().rev().find_map(|record| record.eval_loss) else { continue };
        let kind = crate::train::Settings { seed: 0, out: PathBuf::new(), ..track.settings.clone() };
        match kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, together)) => together.losses.push(loss),
            None => {
                let name = name.split("-seed-").next().unwrap_or(&name).replace('-', " ");
                kinds.push((kind, Together { name, trainable: track.trainable, losses: vec![loss] }));
            }
        }
    }
    kinds.into_iter().map(|(_, together)| together).filter(|together| together.losses.len() > 1).collect()
}

fn over_seeds(kinds: &[Together]) -> Figure {
    if kinds.is_empty() {
        return Figure::default();
    }
    let names = kinds.iter().map(|kind| format!("{}, {}", kind.name, units::count(kind.trainable as u64))).collect();
    let (points, spread) = kinds.iter().enumerate().map(|(at, kind)| ([at as f64, kind.mean()], kind.spread())).unzip();
    let mean = Series::line("mean, and the furthest seed", points).style(Style::Points).color(1);
    let each = kinds.iter().enumerate().flat_map(|(at, kind)| kind.losses.iter().map(move |&loss| [at as f64, loss]));
    Figure {
        title: "Held-out loss over seeds".into(),
        x: Axis::named("", names),
        y: Axis::linear("held-out loss"),
        series: vec![
            Series { spread, ..mean },
            Series::line("every run", each.collect()).style(Style::Points).color(6),
        ],
        ..Figure::default()
    }
}

/// Which of two kinds is better, if the seeds can tell.
fn verdict(kinds: &[Together]) -> Option<String> {
    let [a, b] = kinds else { return None };
    let off = b.mean() - a.mean();
    if off.abs() <= a.spread() + b.spread() {
        return Some(format!(
            "{} and {} differ by {:.3}, no more than their seeds do: no difference is shown.",
            a.name,
            b.name,
            off.abs()
        ));
    }
    let (better, worse) = if off > 0.0 { (a, b) } else { (b, a) };
    Some(format!("{} is better by {:.3} than {}, more than the seeds differ.", better.name, off.abs(), worse.name))
}

/// Held-out loss against what was forgotten: down and left is better.
fn forgetting(training: &Training, tracks: &[&Track]) -> Figure {
    let mut figure = Figure {
        title: "Learning and forgetting: down and left is better".into(),
        x: Axis::linear("loss gained on the base's own kind of text"),
        y: Axis::linear("held-out loss"),
        ..Figure::default()
    };
    for (color, (track, name)) in tracks.iter().zip(names(tracks)).enumerate() {
        let Some([before, after]) = training.past(&track.folder).and_then(|past| past.forgetting) else { continue };
        let Some(loss) = track.records.iter().rev().find_map(|record| record.eval_loss) else { continue };
        figure.series.push(Series::line(name, vec![[after - before, loss]]).style(Style::Points).color(color));
    }
    figure
}

/// What is here once there is something.
fn nothing(ui: &mut Ui, view: &mut View<'_>) {
    const PARTS: [(&str, &str); 4] = [
        ("Losses", "of all runs in one plot, training and held out, by steps or by time"),
        ("Spectra", "how strongly each run changed a module, and in how many directions"),
        ("Forgetting", "what was learned against what was lost of the base, where that was measured"),
        ("A table", "rank, learning rate, trained parameters, losses, speed and memory of each"),
    ];
    let about = "Add two runs or more. Or train the three methods one after the other, on the data that are set up under Run: \
                 then nothing differs but the method.";
    blank::ui(ui, "Nothing is compared yet", about, &PARTS);
    let past = view.state.runs().unwrap_or_default();
    if past.len() > 1 && ui.button("Compare the two newest runs").clicked() {
        view.actions.extend(past[..2].iter().map(|past| Action::Compare(past.folder.clone(), true)));
    }
}

/// Names without the folder that all of them share.
fn names(tracks: &[&Track]) -> Vec<String> {
    let names: Vec<String> = tracks.iter().map(|track| track.name()).collect();
    let folder = names.first().and_then(|name| name.rfind('/')).map(|at| names[0][..=at].to_owned());
    match folder.filter(|folder| names.len() > 1 && names.iter().all(|name| name.starts_with(folder.as_str()))) {
        Some(folder) => names.iter().map(|name| name[folder.len()..].to_owned()).collect(),
        None => names,
    }
}

/// Three runs that differ in nothing but the method.
fn methods(ui: &mut Ui, view: &mut View<'_>) {
    let training = view.state;
    let Some(before) = training.draft() else { return };
    let mut draft = before.clone();
    let problem = training.refusal(&draft, view.workspace);
    ui.horizontal_wrapped(|ui| {
        // The way on, where there is nothing to look at yet.
        let first = problem.is_none() && training.compared().next().is_none();
        let text = RichText::new("Train LoRA, QLoRA and full").strong();
        let button = match first {
            true => Button::new(text.color(ui.visuals().extreme_bg_color)).fill(Colors::of(ui).accent),
            false => Button::new(text),
        };
        let button = ui.add_enabled(problem.is_none(), button).accessible_name("Train LoRA, QLoRA and full");
        let tip =
            "One after the other on the data and the seed that are set up under Run, with their curves over each other";
        let button = button.on_hover_text(tip);
        if button.on_disabled_hover_text(problem.clone().unwrap_or_default()).clicked() {
            view.actions.push(Action::StartMethods);
        }
        let weak = Colors::of(ui).weak;
        ui.label(RichText::new(format!("learning rate {:.1e} for LoRA and QLoRA,", draft.settings.lr)).color(weak));
        let speed = draft.full_lr * 0.01;
        let drag = DragValue::new(&mut draft.full_lr).range(1e-9..=1.0).speed(speed);
        let drag = drag.custom_formatter(|x, _| format!("{x:.1e}")).custom_parser(|text| text.trim().parse().ok());
        ui.add(drag)
            .on_hover_text("Every weight moves at once, so each has to move less")
            .accessible_name("Learning rate of full");
        ui.label(RichText::new("for full. Data, seed and steps are the same.").color(weak));
    });
    if let Some(problem) = problem.filter(|_| training.live().is_none()) {
        ui.label(RichText::new(problem).small().color(Colors::of(ui).weak));
    }
    if draft != *before {
        view.actions.push(Action::Set(Box::new(draft)));
    }
}

/// A plot with its name and menu, in the room there is.
pub fn plot(ui: &mut Ui, view: &mut View<'_>, name: &str, figure: &Figure) {
    let area: Rect = ui.available_rect_before_wrap();
    layout::title(ui, name, |ui| {
        view.export(ui, &name.to_lowercase(), &Take::PLOT, area, || Source::Figure(Box::new(figure.clone())));
    });
    if figure.series.iter().all(|series| series.points.is_empty()) {
        ui.centered_and_justified(|ui| ui.label(RichText::new("Nothing yet").color(Colors::of(ui).weak)));
        return;
    }
    figure.ui(ui, name, |_| {});
}
