//! What tuning has forgotten: an adapter's new directions, scaled down by a slider, with the loss of the task and that of the base's
//! own text beside it.

use std::path::PathBuf;

use eframe::egui::{self, Button, ComboBox, ProgressBar, RichText, ScrollArea, Slider, Ui, vec2};

use super::View;
use super::state::{Action, Subject, TOP};
use crate::app::effect::{Effect, Place};
use crate::app::look::glossary;
use crate::app::look::theme::{Colors, STRONG};
use crate::app::shared::blank;
use crate::app::shared::path::clean;
use crate::app::shared::typed;
use crate::delta::Source;
use crate::figure::{Axis, Figure, Mark, Series, Style, number};
use crate::train::Method;
use crate::train::damp::Scaled;

use super::compare::plot;

/// What the page shows in the end.
const PARTS: [(&str, &str); 3] = [
    ("New directions", "how many strong directions each module has that the base had nothing like"),
    ("A slider", "scales them from as trained to none at all"),
    (
        "Two losses",
        "of your task and of the base's own text, at each place of the slider; then the adapter as you want it",
    ),
];

/// What the page remembers.
pub struct Page {
    chosen: Option<PathBuf>,
    scale: f64,
}

impl Default for Page {
    fn default() -> Self {
        Self { chosen: None, scale: 1.0 }
    }
}

/// An adapter that can be looked at: its name, and what belongs to it.
struct Candidate {
    name: String,
    subject: Subject,
}

impl Page {
    /// Paints it.
    pub fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        let weak = Colors::of(ui).weak;
        ScrollArea::vertical().id_salt("forgetting").auto_shrink(false).show(ui, |ui| {
            ui.label(RichText::new("What has it forgotten?").text_style(egui::TextStyle::Heading));
            let text = "Tuning gives a weight some strong directions that the base had nothing like. They often come with forgetting. \
                        Scale them down, and see what that costs your task and gives back of the base.";
            ui.scope(|ui| {
                ui.set_max_width(760.0);
                ui.label(RichText::new(text).color(weak)).on_hover_ui(|ui| glossary::INTRUDER.ui(ui));
            });
            ui.add_space(8.0);
            let candidates = candidates(view);
            let at = candidates.iter().position(|one| Some(&one.subject.adapter) == self.chosen.as_ref()).unwrap_or(0);
            let Some(now) = candidates.get(at) else {
                blank::ui(ui, "No adapter yet", "Train a LoRA, or open an adapter with its base.", &PARTS);
                if ui.button("Set up a run").clicked() {
                    view.effects.push(Effect::Show(Place::part("train", "run")));
                }
                return;
            };
            self.asked(ui, view, &candidates, now);
            if let Some(problem) = view.state.damping().problem() {
                ui.label(RichText::new(problem).color(Colors::of(ui).bad));
            }
            ui.add_space(8.0);
            self.answer(ui, view);
        });
    }

    /// Which adapter, on which rows.
    fn asked(&mut self, ui: &mut Ui, view: &mut View<'_>, all: &[Candidate], now: &Candidate) {
        let weak = Colors::of(ui).weak;
        ui.horizontal_wrapped(|ui| {
            ui.label(RichText::new("Adapter").color(weak));
            let combo = ComboBox::from_id_salt("adapter").selected_text(&now.name).width(260.0).show_ui(ui, |ui| {
                for one in all {
                    if ui.selectable_label(one.subject == now.subject, &one.name).clicked() {
                        self.chosen = Some(one.subject.adapter.clone());
                    }
                }
            });
            combo.response.accessible_name("Adapter to look at");
            let running = view.state.damping().running();
            if let Some(job) = running {
                let fraction = job.status().fraction.unwrap_or(0.0);
                ui.add(ProgressBar::new(fraction).desired_width(160.0).desired_height(8.0)).accessible_name("Progress");
                if ui.button("Stop").clicked() {
                    view.actions.push(Action::StopLooking);
                }
            } else {
                let text = RichText::new("Look for new directions").strong().color(ui.visuals().extreme_bg_color);
                let tip = "Takes every singular vector of the base's weights: seconds for a small model, minutes for a large one";
                if ui.add(Button::new(text).fill(Colors::of(ui).accent)).on_hover_text(tip).clicked() {
                    self.scale = 1.0;
                    view.actions.push(Action::LookForNew(Box::new(now.subject.clone())));
                }
            }
        });
        ui.horizontal_wrapped(|ui| {
            const NAME: &str = "Text of the base's own kind";
            ui.label(RichText::new(NAME).color(weak));
            let Some(draft) = view.state.draft() else { return };
            let mut path =
                draft.settings.forget_data.as_ref().map_or_else(String::new, |path| path.display().to_string());
            if typed::path(ui, NAME, &mut path, "a file of plain text or rows", 360.0).changed() {
                let mut draft = draft.clone();
                draft.settings.forget_data = (!path.trim().is_empty()).then(|| clean(&path));
                view.actions.push(Action::Set(Box::new(draft)));
            }
            if !view.state.sets().is_empty() && ui.button("Use the bundled tales").clicked() {
                view.actions.push(Action::OwnText);
            }
        });
        if now.subject.own.is_none() {
            let text = "Without such text only the loss of the task is measured.";
            ui.label(RichText::new(text).small().color(weak));
        }
    }

    /// What was found, the slider, and the way out.
    fn answer(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        let colors = Colors::of(ui);
        let damping = view.state.damping();
        let Some(found) = damping.found() else {
            if damping.running().is_some() {
                ui.label(RichText::new("Comparing directions, module by module …").color(colors.weak));
                return;
            }
            let about = "First the new directions are looked for. Text of the base's own kind, where you have some, then shows what \
                         scaling them down gives back.";
            return blank::ui(ui, "Not looked at yet", about, &PARTS);
        };
        let (count, modules) = (found.count(), found.modules().count());
        let with = found.modules().filter(|(_, found)| !found.is_empty()).count();
        if count == 0 {
            let text =
                format!("None of the {TOP} strongest directions of {modules} modules is new: nothing to scale down.");
            ui.label(RichText::new(text).color(colors.good));
            return;
        }
        ui.label(
            RichText::new(format!(
                "{count} of {} strong directions are new, in {with} of {modules} modules.",
                TOP * modules
            ))
            .strong(),
        );
        let points = damping.points();
        let at = |scale: f64| points.iter().find(|point| (point.scale - scale).abs() < 0.01).copied();
        ui.add_space(4.0);
        ui.horizontal(|ui| {
            let label = ui.label("Scale of the new directions");
            ui.spacing_mut().slider_width = 260.0;
            let slider = Slider::new(&mut self.scale, 0.0..=1.0).step_by(0.1).fixed_decimals(1);
            ui.add(slider).labelled_by(label.id).on_hover_text("1 leaves them as they are, 0 takes them out");
        });
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.x = 40.0;
            let (now, before) = (at(self.scale), at(1.0));
            let held_out = damping.subject().is_some_and(|subject| subject.held_out);
            let name = if held_out { "held-out loss of your task" } else { "loss on rows that it was trained on" };
            loss(ui, name, now, before, |point| point.loss);
            loss(ui, "loss on the base's own text", now, before, |point| point.forget_loss);
        });
        let counts: Vec<String> = damping
            .rows()
            .into_iter()
            .zip(["of your task", "of the base's own text"])
            .filter_map(|(rows, of)| Some(format!("{} rows {of}", rows?)))
            .collect();
        if !counts.is_empty() {
            let text = format!("Measured on the first {}.", counts.join(" and the first "));
            ui.label(RichText::new(text).small().color(colors.weak));
        }
        ui.add_space(6.0);
        ui.horizontal_wrapped(|ui| {
            let save = Button::new(format!("Save the adapter at {:.1}", self.scale));
            let tip = "A new adapter beside your runs; the one that is looked at stays as it is";
            if ui.add(save).on_hover_text(tip).accessible_name("Save the scaled adapter").clicked() {
                view.actions.push(Action::WriteScaled(self.scale));
            }
            ui.label(RichText::new("A rank more for each new direction that is scaled.").small().color(colors.weak));
        });
        ui.add_space(10.0);
        let figure = figure(points, self.scale);
        let room = vec2(ui.available_width().min(900.0), (ui.available_height() - 8.0).clamp(220.0, 420.0));
        ui.allocate_ui(room, |ui| {
            ui.set_min_size(room);
            plot(ui, view, "Both losses", &figure);
        });
    }
}

/// A loss at the slider beside the one of the adapter as it was.
fn loss(ui: &mut Ui, name: &str, now: Option<Scaled>, before: Option<Scaled>, of: fn(&Scaled) -> Option<f64>) {
    let colors = Colors::of(ui);
    ui.vertical(|ui| {
        ui.spacing_mut().item_spacing.y = 1.0;
        ui.label(RichText::new(name).small().color(colors.weak));
        let (now, before) = (now.as_ref().and_then(of), before.as_ref().and_then(of));
        let font = egui::FontId::new(22.0, egui::FontFamily::Name(STRONG.into()));
        let text = now.map_or_else(|| "–".to_owned(), |loss| number::whole(loss, 4));
        ui.label(RichText::new(text).font(font));
        let (text, color) = match now.zip(before).map(|(now, before)| now - before) {
            Some(off) if off.abs() < 5e-4 => ("as before".to_owned(), colors.weak),
            Some(off) if off < 0.0 => (format!("{:.3} lower than before", -off), colors.good),
            Some(off) => (format!("{off:.3} higher than before"), colors.warn),
            None => ("not measured".to_owned(), colors.weak),
        };
        ui.label(RichText::new(text).small().color(color));
    });
}

fn figure(points: &[Scaled], scale: f64) -> Figure {
    let line = |of: fn(&Scaled) -> Option<f64>| {
        points.iter().filter_map(|point| Some([point.scale, of(point)?])).collect::<Vec<_>>()
    };
    Figure {
        title: "Both losses against the scale of the new directions".into(),
        x: Axis::linear("scale of the new directions"),
        y: Axis::linear("loss"),
        series: vec![
            Series::line("rows of your task", line(|point| point.loss)).style(Style::LinePoints).color(0),
            Series::line("text of the base's own kind", line(|point| point.forget_loss))
                .style(Style::LinePoints)
                .color(1),
        ],
        marks: vec![Mark::upright("the slider", scale)],
        ..Figure::default()
    }
}

/// Adapters of runs on the disk, and the one that is open.
fn candidates(view: &View<'_>) -> Vec<Candidate> {
    let draft = view.state.draft();
    let own = draft.and_then(|draft| draft.settings.forget_data.clone());
    let runs = view.state.runs().unwrap_or_default().iter();
    let of_runs = runs.filter(|past| past.settings.method != Method::Full).filter_map(|past| {
        let s = &past.settings;
        let subject = Subject {
            base: s.model.clone(),
            adapter: past.newest_weights()?,
            task: s.eval_data.clone().or_else(|| Some(s.data.clone())).filter(|path| !path.as_os_str().is_empty()),
            held_out: s.eval_data.is_some(),
            own: own.clone(),
            seq: s.seq,
        };
        Some(Candidate { name: view.state.name_of(&past.folder), subject })
    });
    let open = view.workspace.delta().and_then(|delta| match delta.source() {
        Source::Adapter(adapter) => {
            let s = draft.map(|draft| &draft.settings);
            let subject = Subject {
                base: delta.base().path().to_path_buf(),
                adapter: adapter.path().to_path_buf(),
                task: s.and_then(|s| s.eval_data.clone()),
                held_out: true,
                own: own.clone(),
                seq: s.map_or(512, |s| s.seq),
            };
            Some(Candidate { name: format!("{} (open)", adapter.name()), subject })
        }
        _ => None,
    });
    open.into_iter().chain(of_runs).collect()
}
