//! The set-up of the next run: a reason beside each setting.

use std::collections::HashMap;
use std::ops::Bound;
use std::path::PathBuf;

use eframe::egui::{
    self, Button, CollapsingHeader, ComboBox, DragValue, Response, RichText, ScrollArea, TextEdit, Ui, WidgetInfo,
};

use super::View;
use super::state::{Action, Draft, Fit, Purpose, short};
use crate::app::look::theme::Colors;
use crate::device::Choice;
use crate::train::data::{HoldOut, TEMPLATES};
use crate::train::forecast;
use crate::train::{Control, Group, Method, Named, SETTINGS, Setting, Settings, Shown};
use crate::units;

use super::outlook;
use crate::app::shared::typed::{Look, Typed};

/// Width of the names.
const NAME: f32 = 104.0;

/// What the set-up remembers between frames: texts as they are being typed, by the name of their setting.
#[derive(Default)]
pub struct Setup {
    typed: HashMap<&'static str, Typed>,
}

impl Setup {
    /// Paints it; every change becomes one command.
    pub fn ui(&mut self, ui: &mut Ui, view: &mut View<'_>) {
        let Some(before) = view.state.draft() else { return };
        let mut draft = before.clone();
        start(ui, view, &draft);
        ui.add_space(4.0);
        outlook::ui(ui, view, &draft);
        ui.add_space(2.0);
        ui.separator();
        ScrollArea::vertical().id_salt("setup").auto_shrink(false).show(ui, |ui| {
            ui.set_width(ui.available_width() - 8.0);
            for group in Group::ALL {
                self.group(ui, view, group, &mut draft.settings);
            }
            self.more(ui, &mut draft);
        });
        if Some(&draft) != view.state.draft() {
            view.actions.push(Action::Set(Box::new(draft)));
        }
    }

    /// A group: what is made by hand for it, then its rows.
    fn group(&mut self, ui: &mut Ui, view: &mut View<'_>, group: Group, s: &mut Settings) {
        let rows = rows(s, Shown::Row).filter(|setting| setting.about.group == group).collect::<Vec<_>>();
        let by_hand = matches!(group, Group::Data | Group::Method | Group::Adapter | Group::Length);
        if rows.is_empty() && !by_hand || group == Group::Adapter && s.method == Method::Full {
            return;
        }
        title(ui, group.title());
        match group {
            Group::Data => self.data(ui, view, s),
            Group::Method => {
                method(ui, s);
                let precision = SETTINGS.iter().find(|setting| setting.name == "dtype");
                if device(ui, view, s)
                    && let Some(precision) = precision
                {
                    self.row(ui, precision, s);
                }
            }
            Group::Adapter => adapter(ui, view),
            Group::Length => length(ui, view, s),
            Group::Quantization | Group::Rate | Group::Optimizer | Group::Logging => {}
        }
        for setting in rows {
            self.row(ui, setting, s);
            propose(ui, view, setting, s);
        }
    }

    /// What is rarely changed.
    fn more(&mut self, ui: &mut Ui, draft: &mut Draft) {
        ui.add_space(6.0);
        CollapsingHeader::new("More settings").show(ui, |ui| {
            for setting in rows(&draft.settings, Shown::More).collect::<Vec<_>>() {
                self.row(ui, setting, &mut draft.settings);
            }
            name(ui, "Name of the run");
            let edit = TextEdit::singleline(&mut draft.name).hint_text("made up from model, method and rank");
            let response = ui.add(edit.desired_width(f32::INFINITY));
            response.widget_info(|| WidgetInfo::text_edit(true, "", &draft.name, "Name of the run"));
            response.accessible_name("Name of the run");
        });
    }

    /// A setting of the table: its name, its control, and why.
    fn row(&mut self, ui: &mut Ui, setting: &'static Setting, s: &mut Settings) {
        let now = (setting.get)(s);
        let label = setting.about.label;
        let mut why = setting.reason();
        let new = match setting.about.control {
            Control::Switch(_) => {
                let mut on = now == "on";
                ui.checkbox(&mut on, label);
                Some(if on { "on" } else { "off" }.to_owned())
            }
            Control::Path(_) | Control::Text(_) | Control::Lines(_) | Control::Patterns => {
                name(ui, label);
                let (hint, look) = match setting.about.control {
                    Control::Lines(_) => ("one a line", Look::Lines(2)),
                    Control::Patterns => ("q_proj = 8, one a line", Look::Lines(2)),
                    Control::Path(_) => ("none", Look::Path(f32::INFINITY)),
                    _ => ("none", Look::Line(f32::INFINITY)),
                };
                self.typed.entry(setting.name).or_default().ui(ui, label, &now, hint, look)
            }
            Control::Choice(choices) => {
                let choices = choices();
                let at = choices.iter().position(|choice| choice.name == now).unwrap_or(0);
                if let Some(choice) = choices.get(at) {
                    why = choice.about.to_owned();
                }
                let labels: Vec<&str> = choices.iter().map(|choice| choice.label).collect();
                menu(ui, setting, &labels, at).map(|at| choices[at].name.to_owned())
            }
            Control::Sizes(sizes) => {
                let labels: Vec<String> = sizes.iter().map(ToString::to_string).collect();
                let at = labels.iter().position(|label| *label == now);
                let chosen = menu(ui, setting, &labels, at.unwrap_or(usize::MAX));
                chosen.map(|at| labels[at].clone())
            }
            Control::Whole(unit) => {
                let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
                let new = number(ui, setting, &now, |drag| drag.fixed_decimals(0).suffix(unit));
                new.map(|new| new.split('.').next().unwrap_or_default().to_owned())
            }
            Control::Real => number(ui, setting, &now, |drag| drag.speed(0.001).max_decimals(5)),
            Control::Exponent => number(ui, setting, &now, |drag| {
                let drag = drag.speed(now.parse::<f64>().unwrap_or(0.0).abs() * 0.01);
                drag.custom_formatter(|x, _| format!("{x:.1e}")).custom_parser(|text| text.trim().parse().ok())
            }),
        };
        let why = if why.is_empty() { setting.help() } else { &why };
        reason(ui, why);
        set(ui, setting, s, new);
    }

    fn data(&mut self, ui: &mut Ui, view: &mut View<'_>, s: &mut Settings) {
        ui.horizontal(|ui| {
            let (now, hint) = (s.data.display().to_string(), "a table, JSON lines or text, or drop one here");
            let typed = self.typed.entry("data").or_default();
            if let Some(text) = typed.ui(ui, "Data file", &now, hint, Look::Path(ui.available_width() - 84.0)) {
                Draft::other_data(s, PathBuf::from(text.trim()));
            }
            if ui.button("Browse…").on_hover_text("Choose the data file").clicked() {
                view.actions.push(Action::Choose(Purpose::Data));
            }
        });
        let sets = view.state.sets();
        if !sets.is_empty() {
            ui.horizontal_wrapped(|ui| {
                for (number, set) in sets.iter().enumerate() {
                    let chosen = set.train == s.data;
                    if ui.selectable_label(chosen, set.name).on_hover_text(set.about).clicked() {
                        view.actions.push(Action::Bundled(number));
                    }
                }
            });
        }
        let outlook = view.state.outlook();
        let colors = Colors::of(ui);
        if let Some(error) = outlook.preview.error() {
            ui.label(RichText::new(error.to_string()).small().color(colors.bad));
            if ui.small_button("Read again").clicked() {
                view.actions.push(Action::ReadAgain);
            }
        } else if let Some(preview) = outlook.preview.latest() {
            let text = format!(
                "{} rows, {} tokens, {} of them carry loss{}",
                units::exact(preview.rows as u64),
                units::count(preview.tokens as u64),
                units::count(preview.predicted as u64),
                if preview.held_out > 0 { format!("; {} rows are held out", preview.held_out) } else { String::new() }
            );
            reason(ui, &text);
        } else if outlook.preview.is_pending() {
            reason(ui, "reading …");
        } else {
            reason(
                ui,
                "JSON lines, a JSON array, CSV, TSV, Parquet (text, prompt and completion, instruction and output, messages, \
                 conversations, input_ids) or plain text.",
            );
        }
        columns(ui, &outlook.columns, s);
        let talks = |name: &String| ["messages", "conversations"].contains(&name.as_str());
        if outlook.columns.iter().any(talks) || s.chat_template.is_some() {
            templates(ui, s);
        }
        self.held_out(ui, s);
    }

    /// The share that is held out, as it is without a word too.
    fn held_out(&mut self, ui: &mut Ui, s: &mut Settings) {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.name == "hold-out") else { return };
        let (now, of_itself) = ((setting.get)(s), s.held_out().to_string());
        let why = match &s.eval_data {
            Some(_) => "The held-out rows come from a file of their own.".to_owned(),
            None if s.held_out() == HoldOut::NONE => {
                "Nothing: only the loss of rows that are trained on is seen.".to_owned()
            }
            None => setting.reason(),
        };
        let typed = self.typed.entry(setting.name).or_default();
        let mut new = None;
        ui.add_enabled_ui(s.eval_data.is_none(), |ui| {
            ui.horizontal(|ui| {
                name(ui, setting.about.label);
                new = typed.ui(ui, setting.about.label, &now, &of_itself, Look::Line(72.0));
            });
        });
        reason(ui, &why);
        set(ui, setting, s, new);
    }
}

/// Two menus with the columns that the file has: what is given, and what is to be predicted.
fn columns(ui: &mut Ui, found: &[String], s: &mut Settings) {
    if found.len() < 2 || found.iter().any(|name| name == "input_ids") {
        return;
    }
    for (role, label) in [("prompt", "Prompt"), ("completion", "Completion")] {
        let now = s.columns.named(role).unwrap_or_default().to_owned();
        named(ui, label, |ui| {
            let text = if now.is_empty() { "by its name" } else { now.as_str() };
            let combo = ComboBox::from_id_salt(("column", role)).selected_text(text).show_ui(ui, |ui| {
                let mut chosen = now.clone();
                ui.selectable_value(&mut chosen, String::new(), "by its name");
                for name in found {
                    ui.selectable_value(&mut chosen, name.clone(), name);
                }
                chosen
            });
            if let Some(chosen) = combo.inner.filter(|chosen| *chosen != now) {
                s.columns = std::mem::take(&mut s.columns).with(role, &chosen);
            }
            combo.response
        });
    }
    reason(ui, "Which column is asked and which is answered, where their names do not say it.");
}

/// The chat templates that come with the program, for a model that has none.
fn templates(ui: &mut Ui, s: &mut Settings) {
    const OWN: &str = "the model's own";
    let now = s.chat_template.clone();
    named(ui, "Chat template", |ui| {
        let text = now.as_deref().unwrap_or(OWN);
        let combo = ComboBox::from_id_salt("chat templates").selected_text(text).show_ui(ui, |ui| {
            ui.selectable_value(&mut s.chat_template, None, OWN);
            for (name, about, _) in TEMPLATES {
                ui.selectable_value(&mut s.chat_template, Some(name.to_owned()), name).on_hover_text(about);
            }
        });
        combo.response
    });
    reason(ui, "How turns become text; a base that was never taught to chat has no template of its own.");
}

/// Sets what was entered, or says why it cannot be.
fn set(ui: &mut Ui, setting: &Setting, s: &mut Settings, new: Option<String>) {
    if let Some(new) = new.filter(|new| *new != (setting.get)(s))
        && let Err(wrong) = (setting.set)(s, &new)
    {
        ui.label(RichText::new(wrong).small().color(Colors::of(ui).bad));
    }
}

/// The button that everything else is for.
fn start(ui: &mut Ui, view: &mut View<'_>, draft: &Draft) {
    let training = view.state;
    let colors = Colors::of(ui);
    let problem = match training.going_on() {
        Some(folder) => Some(format!("{} is still training. Stop it first, or wait.", short(folder))),
        None => training.outlook().problem(draft, view.workspace),
    };
    let doubt = training.outlook().fit() == Some(Fit::Not);
    let what = match draft.settings.method {
        Method::Full => "Start a full fine-tune".to_owned(),
        method => format!("Start {} at r = {}", method.choice().label, draft.settings.rank),
    };
    let text = RichText::new(what).strong().size(14.0).color(ui.visuals().extreme_bg_color);
    let ready = problem.is_none() && !doubt;
    let fill = if ready { colors.accent } else { colors.line };
    let text = if ready { text } else { text.color(colors.weak) };
    let button = Button::new(text).fill(fill).min_size(egui::vec2(ui.available_width(), 34.0));
    let centred = egui::Layout::top_down_justified(egui::Align::Center);
    let response = ui.with_layout(centred, |ui| ui.add_enabled(ready, button)).inner;
    let response = response.accessible_name("Start the run");
    if response.clicked() {
        view.actions.push(Action::Start);
    }
    let tip = "A folder that trains the same by TRL, axolotl, LLaMA-Factory or Unsloth, on as many GPUs as there are";
    let has_data = !draft.settings.data.as_os_str().is_empty() && !draft.settings.model.as_os_str().is_empty();
    if ui.add_enabled(has_data, Button::new("Take it to a cluster…")).on_hover_text(tip).clicked() {
        view.actions.push(Action::OfferJob(None));
    }
    if let Some(problem) = problem {
        ui.label(RichText::new(problem).small().color(colors.weak));
    }
}

/// The settings of the table that are shown so and have an effect.
fn rows(s: &Settings, shown: Shown) -> impl Iterator<Item = &'static Setting> {
    let method = s.method;
    SETTINGS.iter().filter(move |setting| setting.about.shown == shown && setting.touches(method))
}

fn method(ui: &mut Ui, s: &mut Settings) {
    ui.horizontal(|ui| {
        for method in Method::ALL.iter().rev() {
            ui.selectable_value(&mut s.method, *method, method.choice().label);
        }
    });
    reason(ui, s.method.choice().about);
}

/// What suits the model and the data better than what is set: a reason, whether that is far off, the value.
struct Proposal {
    text: String,
    far: bool,
    value: String,
    why: &'static str,
}

/// What is proposed for a setting, where another value is set.
fn proposal(view: &View<'_>, setting: &Setting, s: &Settings) -> Option<Proposal> {
    let base = view.workspace.base()?;
    let outlook = view.state.outlook();
    let preview = outlook.preview.latest();
    let rows_of_a_step = s.batch * s.accumulate;
    match setting.name {
        "lr" => {
            let proposed = forecast::learning_rate(base.parameters(), s.method);
            let off = (s.lr / proposed).max(proposed / s.lr);
            let far = off >= forecast::FAR_OFF;
            let text = match far {
                true => format!("{off:.0} times off what suits a model of this size: {proposed:.0e}."),
                false => format!("For a model of this size: {proposed:.0e}."),
            };
            let why = "Between QLoRA's 2e-4 at 7B and the best rate of the bundled model, measured; a tenth of it for every weight";
            (off >= 1.5).then(|| Proposal { text, far, value: format!("{proposed:.0e}"), why })
        }
        "seq" => {
            let (preview, most) = (preview?, base.spec().ok()?.max_positions);
            let (proposed, cut) = (forecast::sequence(preview.whole, most), preview.unused[1]);
            let why = "The least that cuts no row, within what the model allows";
            let text = match cut {
                0 => format!("The longest row has {} tokens.", preview.whole),
                cut => format!("{} rows are cut; the longest has {} tokens.", units::exact(cut as u64), preview.whole),
            };
            let far = cut * 10 > preview.rows;
            let off = if cut > 0 { s.seq < proposed } else { s.seq >= 4 * proposed };
            off.then(|| Proposal { text, far, value: proposed.to_string(), why })
        }
        "batch" => {
            let rows = preview?.rows;
            let fits = outlook.batch.unwrap_or(1);
            let proposed = forecast::batch(rows, s.accumulate, fits);
            let few = rows < 2 * rows_of_a_step;
            let text = match few {
                true => format!("An epoch of {rows} rows has fewer than two steps."),
                false => format!("{} fit the memory with room to spare.", fits),
            };
            let why = "The largest that fits, but no more than leaves ten steps in an epoch";
            let far = few || outlook.fit() == Some(Fit::Not);
            (s.batch > proposed && (far || s.batch > fits)).then(|| Proposal {
                text,
                far,
                value: proposed.to_string(),
                why,
            })
        }
        "eval-every" => {
            let preview = preview?;
            let share = forecast::evaluation_share(preview.held_out, s.eval_every, rows_of_a_step);
            let proposed = forecast::evaluate_every(preview.held_out, rows_of_a_step, preview.steps(s));
            let text = format!("Evaluations take about {} of the time of the steps.", units::percent(share));
            let why = "Ten evaluations in a run, fewer where they would take more than a tenth of its time";
            let off = s.eval_every > 0 && share > 0.15 && s.eval_every < proposed;
            off.then(|| Proposal { text, far: share > 0.5, value: proposed.to_string(), why })
        }
        _ => None,
    }
}

/// A proposal and the button that takes it; far off it stands out.
fn propose(ui: &mut Ui, view: &View<'_>, setting: &Setting, s: &mut Settings) {
    let Some(Proposal { text, far, value, why }) = proposal(view, setting, s) else { return };
    let colors = Colors::of(ui);
    ui.horizontal_wrapped(|ui| {
        ui.label(RichText::new(text).small().color(if far { colors.warn } else { colors.weak }));
        let button = ui.small_button(format!("Use {value}")).on_hover_text(why);
        let name = if setting.name == "lr" { "learning rate" } else { setting.about.label };
        if button.accessible_name(format!("Use the proposed {}", name.to_lowercase())).clicked() {
            set(ui, setting, s, Some(value));
        }
    });
}

/// What the rank bar says.
fn adapter(ui: &mut Ui, view: &View<'_>) {
    let dial = view.workspace.dial();
    let targets = crate::app::shared::targets::name(&dial.targets);
    let text = format!("r = {}, s = {}, {targets}: from the rank bar above.", dial.r, units::real(dial.factor(), 3));
    reason(ui, &text);
}

/// What it computes on; whether that is a GPU.
fn device(ui: &mut Ui, view: &View<'_>, s: &mut Settings) -> bool {
    let outlook = view.state.outlook();
    let name = |choice: Choice| match choice {
        Choice::Auto => "automatic".to_owned(),
        Choice::Cpu => "processor".to_owned(),
        Choice::Cuda(0) => "NVIDIA GPU".to_owned(),
        Choice::Cuda(number) => format!("NVIDIA GPU {number}"),
        Choice::Adapter(api, number) => {
            let shown = outlook.devices.iter().find(|(other, _)| *other == choice).and_then(|(_, d)| d.as_ref().ok());
            let name = shown.map_or_else(|| format!("GPU {number}"), |device| device.name.clone());
            format!("{name} ({})", api.title())
        }
    };
    let on = outlook.device.as_ref();
    let gpu = on.is_some_and(|device| device.choice != Choice::Cpu);
    let why = match on {
        Some(device) if gpu => format!("Computes on {}.", device.name),
        Some(device) => format!("Computes on {}, in 32 bits.", device.name),
        None => "It cannot be used.".to_owned(),
    };
    row(ui, "Device", &why, |ui| {
        let combo = ComboBox::from_id_salt("device").selected_text(name(s.device)).show_ui(ui, |ui| {
            ui.selectable_value(&mut s.device, Choice::Auto, name(Choice::Auto))
                .on_hover_text("A GPU where there is one that is faster, otherwise the processor");
            for (choice, found) in outlook.devices.iter().filter(|(choice, _)| *choice != Choice::Auto) {
                let refused = found.as_ref().err().map(ToString::to_string);
                ui.add_enabled_ui(refused.is_none(), |ui| {
                    let label = ui.selectable_value(&mut s.device, *choice, name(*choice));
                    match (found, refused) {
                        (_, Some(refused)) => label.on_disabled_hover_text(refused),
                        (Ok(device), None) => label.on_hover_text(device.to_string()),
                        (Err(_), None) => label,
                    };
                });
            }
        });
        combo.response
    });
    gpu
}

fn length(ui: &mut Ui, view: &View<'_>, s: &mut Settings) {
    let mut by_steps = s.steps.is_some();
    ui.horizontal(|ui| {
        name(ui, "Length");
        ui.selectable_value(&mut by_steps, true, "steps");
        ui.selectable_value(&mut by_steps, false, "epochs");
        let response = match (by_steps, &mut s.steps) {
            (true, Some(steps)) => ui.add(DragValue::new(steps).range(1..=10_000_000)),
            (true, none) => {
                *none = view
                    .state
                    .outlook()
                    .preview
                    .latest()
                    .map(|preview| {
                        preview.steps(&Settings {
                            steps: None,
                            epochs: s.epochs,
                            batch: s.batch,
                            accumulate: s.accumulate,
                            ..Settings::default()
                        })
                    })
                    .or(Some(200));
                ui.label("")
            }
            (false, steps) => {
                *steps = None;
                ui.add(DragValue::new(&mut s.epochs).range(0.01..=1000.0).speed(0.05))
            }
        };
        response.accessible_name("Length of the run");
    });
    reason(ui, "One to three epochs is usual; more makes the model repeat its rows.");
}

/// One of several, by number; the number that was chosen.
fn menu(ui: &mut Ui, setting: &Setting, labels: &[impl AsRef<str>], at: usize) -> Option<usize> {
    let mut chosen = at;
    let now = (setting.get)(&Settings::default());
    let text = labels.get(at).map_or(now.as_str(), AsRef::as_ref);
    named(ui, setting.about.label, |ui| {
        let combo = ComboBox::from_id_salt(setting.name).selected_text(text).show_ui(ui, |ui| {
            for (number, label) in labels.iter().enumerate() {
                ui.selectable_value(&mut chosen, number, label.as_ref());
            }
        });
        combo.response
    });
    (chosen != at).then_some(chosen)
}

/// A number within the setting's range; 0 is none where there may be none.
fn number(
    ui: &mut Ui,
    setting: &Setting,
    now: &str,
    look: impl FnOnce(DragValue<'_>) -> DragValue<'_>,
) -> Option<String> {
    let mut value: f64 = now.parse().unwrap_or(0.0);
    let (least, most) = setting.about.range;
    let least = match least {
        Bound::Included(least) => least,
        // What is shown is never 0.
        Bound::Excluded(least) => least + 1e-12,
        Bound::Unbounded => 0.0,
    };
    let most = match most {
        Bound::Included(most) => most,
        Bound::Excluded(most) if most.is_finite() => most - 1e-6,
        Bound::Excluded(_) | Bound::Unbounded => f64::MAX,
    };
    let mut changed = false;
    named(ui, setting.about.label, |ui| {
        let response = ui.add(look(DragValue::new(&mut value).range(least..=most)));
        changed = response.changed();
        response
    });
    changed.then(|| value.to_string())
}

fn title(ui: &mut Ui, text: &str) {
    ui.add_space(8.0);
    ui.label(RichText::new(text).text_style(egui::TextStyle::Heading));
}

fn name(ui: &mut Ui, text: &str) -> Response {
    let height = ui.spacing().interact_size.y;
    ui.allocate_ui_with_layout(egui::vec2(NAME, height), egui::Layout::left_to_right(egui::Align::Center), |ui| {
        ui.set_min_width(NAME);
        ui.label(text)
    })
    .inner
}

fn row(ui: &mut Ui, text: &str, why: &str, add: impl FnOnce(&mut Ui) -> Response) {
    named(ui, text, add);
    reason(ui, why);
}

/// A control behind its name.
fn named(ui: &mut Ui, text: &str, add: impl FnOnce(&mut Ui) -> Response) {
    ui.horizontal(|ui| {
        let label = name(ui, text);
        add(ui).labelled_by(label.id);
    });
}

fn reason(ui: &mut Ui, why: &str) -> Response {
    ui.label(RichText::new(why).small().color(Colors::of(ui).weak))
}
