//! The set-up of the next run: a reason beside each setting.

use std::path::PathBuf;

use eframe::egui::{
    self, Button, CollapsingHeader, ComboBox, DragValue, Response, RichText, ScrollArea, TextEdit, Ui, WidgetInfo,
};

use super::View;
use super::state::{Action, Draft, Fit, NO_METAL, Purpose, method_name, short};
use crate::app::look::theme::Colors;
use crate::device::Choice;
use crate::model::gpu::Kind;
use crate::train::{Init, Method, Quant, Schedule, Settings};
use crate::units;

use super::outlook;
use super::typed::{Look, Typed};

/// Width of the names.
const NAME: f32 = 104.0;

/// What the set-up remembers between frames.
#[derive(Default)]
pub struct Setup {
    /// The path as it is being typed.
    data: Typed,
    eval_data: Typed,
    prompts: Typed,
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
            self.data(ui, view, &mut draft.settings);
            method(ui, view, &mut draft.settings);
            length(ui, view, &mut draft.settings);
            rate(ui, &mut draft.settings);
            self.watching(ui, &mut draft.settings);
            more(ui, &mut draft);
        });
        if Some(&draft) != view.state.draft() {
            view.actions.push(Action::Set(Box::new(draft)));
        }
    }

    fn data(&mut self, ui: &mut Ui, view: &mut View<'_>, s: &mut Settings) {
        title(ui, "Data");
        ui.horizontal(|ui| {
            let (now, hint) = (s.data.display().to_string(), "a .jsonl or .txt file, or drop one here");
            if let Some(text) = self.data.ui(ui, "Data file", &now, hint, Look::Line(ui.available_width() - 84.0)) {
                s.data = PathBuf::from(text.trim());
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
                "JSON lines (text, prompt and completion, instruction and output, messages, input_ids) or plain text.",
            );
        }
    }

    /// What is looked at while it goes on.
    fn watching(&mut self, ui: &mut Ui, s: &mut Settings) {
        title(ui, "Watch");
        row(
            ui,
            "Evaluate every",
            "On held-out rows: a loss that only falls on training rows is memory, not learning.",
            |ui| ui.add(DragValue::new(&mut s.eval_every).range(0..=100_000).suffix(" steps")),
        );
        row(ui, "Checkpoint every", "What a power cut costs at most; a stop saves one anyway.", |ui| {
            ui.add(DragValue::new(&mut s.save_every).range(0..=100_000).suffix(" steps"))
        });
        row(ui, "Film every", "Singular values of ΔW under the loss; a few milliseconds each.", |ui| {
            ui.add(DragValue::new(&mut s.film_every).range(0..=100_000).suffix(" steps"))
        });
        let now = s.prompts.join("\n");
        name(ui, "Sample prompts");
        if let Some(text) = self.prompts.ui(ui, "Sample prompts", &now, "one prompt a line", Look::Lines(2)) {
            s.prompts = text.lines().map(str::to_owned).filter(|line| !line.trim().is_empty()).collect();
        }
        reason(ui, "The model goes on with each before and after the run: a loss is a number, this is what it means.");
        row(ui, "Sample every", "And in between; 0 for never.", |ui| {
            ui.add(DragValue::new(&mut s.sample_every).range(0..=100_000).suffix(" steps"))
        });
        name(ui, "Held-out data");
        let now = s.eval_data.as_ref().map_or_else(String::new, |path| path.display().to_string());
        let hint = "every tenth row of the data";
        if let Some(text) = self.eval_data.ui(ui, "Held-out data", &now, hint, Look::Line(f32::INFINITY)) {
            s.eval_data = Some(text.trim()).filter(|text| !text.is_empty()).map(PathBuf::from);
        }
    }
}

/// The button that everything else is for.
fn start(ui: &mut Ui, view: &mut View<'_>, draft: &Draft) {
    let training = view.state;
    let colors = Colors::of(ui);
    let problem = match training.going_on() {
        Some(folder) => Some(format!("{} goes on. Stop it, or wait for its end.", short(folder))),
        None => training.outlook().problem(draft, view.workspace),
    };
    let doubt = training.outlook().fit() == Some(Fit::Not);
    let what = match draft.settings.method {
        Method::Full => "Start a full fine-tune".to_owned(),
        method => format!("Start {} at r = {}", method_name(method), draft.settings.rank),
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
    if let Some(problem) = problem {
        ui.label(RichText::new(problem).small().color(colors.weak));
    }
}

fn method(ui: &mut Ui, view: &View<'_>, s: &mut Settings) {
    title(ui, "Method");
    ui.horizontal(|ui| {
        for method in [Method::Qlora, Method::Lora, Method::Full] {
            ui.selectable_value(&mut s.method, method, method_name(method));
        }
    });
    reason(
        ui,
        match s.method {
            Method::Qlora => "Frozen weights in 4 bits, pairs A and B beside them: the least memory.",
            Method::Lora => "Frozen weights as stored, pairs A and B beside them.",
            Method::Full => "Every weight is trained: the most memory; lr about a tenth of LoRA's.",
        },
    );
    device(ui, view, s);
    if s.method == Method::Full {
        return;
    }
    let dial = view.workspace.dial();
    let targets = crate::app::shared::targets::name(&dial.targets);
    let text = format!("r = {}, s = {}, {targets}: from the rank bar above.", dial.r, units::real(dial.factor(), 3));
    reason(ui, &text);
    if s.method == Method::Qlora {
        row(ui, "Levels", "NF4's levels follow a normal distribution, as weights do.", |ui| {
            let combo =
                ComboBox::from_id_salt("quant").selected_text(if s.quant == Quant::Fp4 { "FP4" } else { "NF4" });
            let combo = combo.show_ui(ui, |ui| {
                ui.selectable_value(&mut s.quant, Quant::Nf4, "NF4");
                ui.selectable_value(&mut s.quant, Quant::Fp4, "FP4");
            });
            combo.response
        });
    }
}

/// What it computes on.
fn device(ui: &mut Ui, view: &View<'_>, s: &mut Settings) {
    let outlook = view.state.outlook();
    let name = |choice: Choice| match choice {
        Choice::Auto => "automatic".to_owned(),
        Choice::Cpu => "processor".to_owned(),
        Choice::Metal => "Apple GPU".to_owned(),
        Choice::Cuda(0) => "NVIDIA GPU".to_owned(),
        Choice::Cuda(number) => format!("NVIDIA GPU {number}"),
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
                .on_hover_text("An NVIDIA GPU where there is one that can be used, otherwise the processor");
            for (choice, found) in &outlook.devices {
                let refused = match found {
                    Ok(_) if *choice == Choice::Metal => Some(NO_METAL.to_owned()),
                    Ok(_) => None,
                    Err(error) => Some(error.to_string()),
                };
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
    if gpu {
        row(ui, "Precision", "Of weights and activations on the GPU; what is trained is kept in 32 bits.", |ui| {
            let now = s.dtype.unwrap_or(Kind::Bf16);
            let combo = ComboBox::from_id_salt("precision").selected_text(now.name()).show_ui(ui, |ui| {
                for kind in [Kind::Bf16, Kind::F32] {
                    if ui.selectable_label(now == kind, kind.name()).clicked() {
                        s.dtype = Some(kind);
                    }
                }
            });
            combo.response
        });
    }
}

fn length(ui: &mut Ui, view: &View<'_>, s: &mut Settings) {
    title(ui, "How long");
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
    row(ui, "Batch", "Rows at once: a smoother gradient for more memory.", |ui| {
        ui.add(DragValue::new(&mut s.batch).range(1..=4096).suffix(" rows"))
    });
    row(ui, "Accumulate", "Batches of a step: a larger batch without its memory.", |ui| {
        ui.add(DragValue::new(&mut s.accumulate).range(1..=4096))
    });
    row(ui, "Sequence", "Longest row; longer ones are cut.", |ui| {
        ui.add(DragValue::new(&mut s.seq).range(2..=131_072).suffix(" tokens"))
    });
}

fn rate(ui: &mut Ui, s: &mut Settings) {
    title(ui, "Learning rate");
    row(ui, "Peak", "2e-4 is QLoRA's for 7B; a small model takes ten times as much.", |ui| exponent(ui, &mut s.lr));
    row(ui, "Warm-up", "Rises over so many steps: Adam's moments are empty at first.", |ui| {
        ui.add(DragValue::new(&mut s.warmup).range(0..=1_000_000).suffix(" steps"))
    });
    row(ui, "Schedule", "Falling to zero at the end lets the loss settle.", |ui| {
        let text = |schedule| match schedule {
            Schedule::Cosine => "cosine",
            Schedule::Linear => "linear",
            Schedule::Constant => "constant",
        };
        let combo = ComboBox::from_id_salt("schedule").selected_text(text(s.schedule)).show_ui(ui, |ui| {
            for schedule in [Schedule::Cosine, Schedule::Linear, Schedule::Constant] {
                ui.selectable_value(&mut s.schedule, schedule, text(schedule));
            }
        });
        combo.response
    });
}

/// What is rarely changed.
fn more(ui: &mut Ui, draft: &mut Draft) {
    ui.add_space(6.0);
    CollapsingHeader::new("More settings").show(ui, |ui| {
        let s = &mut draft.settings;
        if s.method != Method::Full {
            let text = |init| match init {
                Init::Default => "random A, zero B",
                Init::Pissa => "PiSSA",
                Init::Loftq => "LoftQ",
            };
            let why = match s.init {
                Init::Default => "The run begins where the model is: ΔW = 0.",
                Init::Pissa => {
                    "The strongest directions of each weight are trained, the rest is frozen: a faster start."
                }
                Init::Loftq => "The first pairs repair what 4 bits have taken from the weights. Goes with QLoRA.",
            };
            row(ui, "First A and B", why, |ui| {
                let combo = ComboBox::from_id_salt("init").selected_text(text(s.init)).show_ui(ui, |ui| {
                    for init in [Init::Default, Init::Pissa, Init::Loftq] {
                        ui.selectable_value(&mut s.init, init, text(init));
                    }
                });
                combo.response
            });
        }
        row(ui, "Weight decay", "Pulls weights to zero a little each step; 0.01 is torch's.", |ui| {
            ui.add(DragValue::new(&mut s.weight_decay).range(0.0..=10.0).speed(0.001).max_decimals(4))
        });
        row(
            ui,
            "Clip gradient",
            "Scaled down to this norm: one bad batch does no harm. QLoRA uses 0.3; 0 for never.",
            |ui| ui.add(DragValue::new(&mut s.max_grad_norm).range(0.0..=1000.0).speed(0.01)),
        );
        row(ui, "Dropout", "Of the pairs' input. Helps on small data: 0.05 to 0.1.", |ui| {
            ui.add(DragValue::new(&mut s.dropout).range(0.0..=0.9).speed(0.005))
        });
        row(ui, "β₁", "How long Adam remembers gradients.", |ui| {
            ui.add(DragValue::new(&mut s.beta1).range(0.0..=0.9999).speed(0.001))
        });
        row(ui, "β₂", "How long it remembers their squares; 0.95 for short runs.", |ui| {
            ui.add(DragValue::new(&mut s.beta2).range(0.0..=0.99999).speed(0.001))
        });
        row(ui, "ε", "Keeps Adam's division finite.", |ui| exponent(ui, &mut s.eps));
        row(ui, "Seed", "Of A, of the order of rows, of dropout: the same seed gives the same run.", |ui| {
            ui.add(DragValue::new(&mut s.seed))
        });
        row(ui, "Block", "Weights that share a scale in 4 bits.", |ui| {
            let combo = ComboBox::from_id_salt("block").selected_text(s.block.to_string()).show_ui(ui, |ui| {
                for block in [32, 64, 128, 256, 512] {
                    ui.selectable_value(&mut s.block, block, block.to_string());
                }
            });
            combo.response
        });
        check(ui, &mut s.double_quant, "Double quantization", "Scales in 8 bits: saves 0.37 bit a weight.");
        check(
            ui,
            &mut s.checkpointing,
            "Checkpointing",
            "Keeps only the blocks' inputs: a third more time for much less memory.",
        );
        check(
            ui,
            &mut s.packing,
            "Packing",
            "Several rows in a sequence, apart from each other: less padding where rows are short.",
        );
        check(ui, &mut s.shuffle, "Shuffle", "A new order every epoch.");
        name(ui, "Name of the run");
        let edit = TextEdit::singleline(&mut draft.name).hint_text("made up from model, method and rank");
        let response = ui.add(edit.desired_width(f32::INFINITY).background_color(ui.visuals().panel_fill));
        response.widget_info(|| WidgetInfo::text_edit(true, "", &draft.name, "Name of the run"));
        response.accessible_name("Name of the run");
    });
}

fn check(ui: &mut Ui, value: &mut bool, text: &str, why: &str) {
    ui.checkbox(value, text);
    reason(ui, why);
}

/// A small number, written with its power of ten.
fn exponent(ui: &mut Ui, value: &mut f64) -> Response {
    let speed = value.abs() * 0.01;
    let drag = DragValue::new(value).range(1e-12..=10.0).speed(speed);
    ui.add(drag.custom_formatter(|x, _| format!("{x:.1e}")).custom_parser(|text| text.trim().parse().ok()))
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
    ui.horizontal(|ui| {
        let label = name(ui, text);
        add(ui).labelled_by(label.id);
    });
    reason(ui, why);
}

fn reason(ui: &mut Ui, why: &str) -> Response {
    ui.label(RichText::new(why).small().color(Colors::of(ui).weak))
}
