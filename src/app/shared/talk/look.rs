//! The field for a prompt, and the answers side by side.

use eframe::egui::{
    Align, Button, DragValue, Frame, Key, Label, Layout, Margin, Modifiers, RichText, ScrollArea, Slider, Stroke,
    TextEdit, Ui, WidgetInfo, vec2,
};

use super::{Answer, Edit, Phase, Talk};
use crate::app::look::glossary;
use crate::app::look::theme::Colors;
use crate::figure::number;
use crate::train::talk::Question;

/// Narrower columns stand below each other.
const COLUMN: f32 = 200.0;
/// An answer has at least this height.
const HEIGHT: f32 = 120.0;
/// More than that is empty.
const TALLEST: f32 = 460.0;
/// Room for what stands below the answers.
const BELOW: f32 = 170.0;

/// What is set up for the next question.
pub struct Look {
    prompt: String,
    chat: bool,
    temperature: f32,
    most: usize,
    asked: u64,
    fills: bool,
}

impl Default for Look {
    fn default() -> Self {
        Self { prompt: String::new(), chat: false, temperature: 0.0, most: 64, asked: 0, fills: false }
    }
}

impl Look {
    /// One whose answers take the height there is.
    pub fn filling() -> Self {
        Self { fills: true, ..Self::default() }
    }

    /// Paints field and answers. `names` are those who would answer, `ideas` are prompts that suit them; what forbids
    /// asking is said in place of the button's tip.
    pub fn ui(
        &mut self,
        ui: &mut Ui,
        talk: &Talk,
        names: &[String],
        ideas: &[String],
        forbidden: Option<&str>,
    ) -> Option<Edit> {
        if self.prompt.is_empty() && self.asked == 0 {
            self.prompt = ideas.first().cloned().unwrap_or_default();
        }
        let mut edit = None;
        let field = TextEdit::multiline(&mut self.prompt)
            .hint_text("Write the beginning of a text, or a question")
            .desired_rows(2)
            .desired_width(f32::INFINITY)
            .margin(vec2(8.0, 6.0))
            .return_key(eframe::egui::KeyboardShortcut::new(Modifiers::SHIFT, Key::Enter));
        let field = ui.add(field);
        field.widget_info(|| WidgetInfo::text_edit(true, "", &self.prompt, "Prompt"));
        let field = field.accessible_name("Prompt");
        let enter = field.has_focus() && ui.input(|i| i.key_pressed(Key::Enter) && !i.modifiers.shift);
        self.ideas(ui, ideas);
        ui.horizontal_wrapped(|ui| {
            let ready = !self.prompt.trim().is_empty() && forbidden.is_none();
            if talk.running().is_some() {
                if ui.button("Stop").on_hover_text("Ends the answers where they are").clicked() {
                    edit = Some(Edit::Stop);
                }
            } else {
                let text = RichText::new("Ask").strong().color(ui.visuals().extreme_bg_color);
                let button = Button::new(text).fill(Colors::of(ui).accent).min_size(vec2(64.0, 0.0));
                let button = ui.add_enabled(ready, button).on_hover_text("Enter; Shift+Enter for a new line");
                let button = button.on_disabled_hover_text(forbidden.unwrap_or("Write a prompt first"));
                if button.clicked() || (enter && ready) {
                    edit = Some(Edit::Ask(self.question()));
                }
            }
            ui.add_space(10.0);
            let label = ui.label("Temperature").on_hover_ui(|ui| glossary::TEMPERATURE.ui(ui));
            let slider = Slider::new(&mut self.temperature, 0.0..=2.0).fixed_decimals(2).step_by(0.05);
            ui.add(slider).labelled_by(label.id).on_hover_ui(|ui| glossary::TEMPERATURE.ui(ui));
            ui.add_space(10.0);
            let label = ui.label("At most");
            let most = DragValue::new(&mut self.most).range(1..=4096).suffix(" tokens");
            ui.add(most).labelled_by(label.id).on_hover_ui(|ui| glossary::TOKEN.ui(ui));
            ui.add_space(10.0);
            ui.checkbox(&mut self.chat, "As a chat message").on_hover_text(
                "Puts the prompt into the model's chat template, as a message of the user. For models that were trained \
                 on conversations.",
            );
        });
        if let Some(problem) = talk.problem() {
            ui.label(RichText::new(format!("No answer: {problem}.")).color(Colors::of(ui).bad));
        }
        ui.add_space(6.0);
        let waiting: Vec<Answer>;
        let answers = match talk.answers() {
            [] => {
                waiting = names.iter().map(|name| Answer { name: name.clone(), ..Answer::default() }).collect();
                &waiting
            }
            answers => answers,
        };
        let left = ui.clip_rect().bottom() - ui.available_rect_before_wrap().top() - BELOW;
        let height = if self.fills { left.clamp(HEIGHT, TALLEST) } else { HEIGHT };
        columns(ui, talk, answers, height);
        edit
    }

    fn ideas(&mut self, ui: &mut Ui, ideas: &[String]) {
        if ideas.is_empty() {
            return;
        }
        ui.horizontal_wrapped(|ui| {
            ui.label(RichText::new("Try").small().color(Colors::of(ui).weak));
            for idea in ideas.iter().take(4) {
                let text = crate::app::widgets::text::middle(idea, 40);
                let button = ui.small_button(text).on_hover_text(idea);
                if button.accessible_name(format!("Take the prompt {idea}")).clicked() {
                    self.prompt.clone_from(idea);
                }
            }
        });
    }

    /// Each question draws anew: at a temperature above 0 the same prompt gets other answers.
    fn question(&mut self) -> Question {
        self.asked += 1;
        Question {
            prompt: self.prompt.clone(),
            chat: self.chat,
            most: self.most,
            temperature: self.temperature,
            seed: self.asked,
        }
    }
}

fn columns(ui: &mut Ui, talk: &Talk, answers: &[Answer], height: f32) {
    if answers.is_empty() {
        return;
    }
    let fitting = ((ui.available_width() / COLUMN) as usize).clamp(1, answers.len());
    for row in answers.chunks(fitting) {
        ui.columns(row.len(), |columns| {
            for (ui, answer) in columns.iter_mut().zip(row) {
                card(ui, talk.prompt(), answer, height);
            }
        });
        ui.add_space(8.0);
    }
}

fn card(ui: &mut Ui, prompt: &str, answer: &Answer, height: f32) {
    let colors = Colors::of(ui);
    let frame = Frame::new().fill(ui.visuals().panel_fill).stroke(Stroke::new(1.0, colors.line)).corner_radius(6);
    frame.inner_margin(Margin::same(10)).show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.horizontal(|ui| {
            ui.add(Label::new(RichText::new(&answer.name).strong()).truncate()).on_hover_text(&answer.name);
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                ui.label(RichText::new(state(answer.phase)).small().color(colors.weak));
            });
        });
        ScrollArea::vertical().id_salt(&answer.name).max_height(height.max(260.0)).show(ui, |ui| {
            ui.set_min_height(height);
            ui.set_width(ui.available_width());
            if answer.phase == Phase::Waiting && answer.text.is_empty() {
                return;
            }
            ui.with_layout(Layout::top_down(Align::LEFT), |ui| {
                ui.label(RichText::new(prompt).color(colors.weak));
                let text = answer.text.trim_start();
                match (text.is_empty(), answer.phase) {
                    (true, Phase::Done(..)) => {
                        ui.label(RichText::new("It says nothing: the first token is the end of the text.").italics());
                    }
                    _ => {
                        ui.label(text);
                    }
                }
            });
        });
    });
}

fn state(phase: Phase) -> String {
    match phase {
        Phase::Waiting => String::new(),
        Phase::Reading => "reading …".to_owned(),
        Phase::Writing => "writing …".to_owned(),
        Phase::Done(tokens, seconds) if seconds > 0.0 && tokens > 0 => {
            format!("{tokens} tokens · {} tokens/s", number::short(tokens as f64 / seconds, 3))
        }
        Phase::Done(tokens, _) => format!("{tokens} tokens"),
        Phase::Stopped => "stopped".to_owned(),
    }
}
