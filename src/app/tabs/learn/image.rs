//! A small matrix as a picture: one texel a cell, painted at once. Large ones are the heatmaps' business.

use eframe::egui::{
    Align2, Color32, ColorImage, Context, FontId, Rect, Sense, Stroke, StrokeKind, TextureHandle, TextureOptions, Ui,
    Vec2, WidgetInfo, accesskit::Role, pos2, vec2,
};

use crate::app::look::theme::Colors;
use crate::figure::{ColorMap, number::short};
use crate::matrix::Matrix;

/// Room for the title.
const TITLE: f32 = 20.0;

/// A picture that is made anew only when what it shows has changed.
#[derive(Default)]
pub struct Image {
    key: Option<(u64, u64, bool)>,
    texture: Option<TextureHandle>,
    size: f64,
}

impl Image {
    /// The room that a picture of this side takes.
    pub fn room(side: f32) -> Vec2 {
        vec2(side, side + TITLE)
    }

    /// Prepares the picture of `matrix`, which `key` names; `scale` is the magnitude of the strongest colour.
    pub fn make(&mut self, ctx: &Context, key: [u64; 2], dark: bool, scale: f32, matrix: impl FnOnce() -> Matrix) {
        let key = (key[0], key[1], dark);
        if self.key == Some(key) {
            return;
        }
        let matrix = matrix();
        let table = ColorMap::Diverging.table(dark);
        let color = |x: &f32| table.at(0.5 + 0.5 * x / scale.max(f32::MIN_POSITIVE)).into();
        let pixels: Vec<Color32> = matrix.data().iter().map(color).collect();
        let image = ColorImage::new([matrix.cols(), matrix.rows()], pixels);
        self.texture = Some(ctx.load_texture("learn", image, TextureOptions::NEAREST));
        self.size = matrix.frobenius();
        self.key = Some(key);
    }

    /// Paints it at `rect`, with a title above.
    pub fn ui(&self, ui: &mut Ui, rect: Rect, title: &str, color: Color32) {
        let at = pos2(rect.left(), rect.top() + TITLE / 2.0 - 2.0);
        ui.painter().text(at, Align2::LEFT_CENTER, title, FontId::proportional(13.0), color);
        let size = format!("‖·‖ = {}", short(self.size, 3));
        let weak = Colors::of(ui).weak;
        let end = pos2(rect.right(), at.y);
        ui.painter().text(end, Align2::RIGHT_CENTER, &size, FontId::proportional(11.0), weak);
        let frame = rect.with_min_y(rect.top() + TITLE);
        if let Some(texture) = &self.texture {
            let all = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
            ui.painter().image(texture.id(), frame, all, Color32::WHITE);
        }
        ui.painter().rect_stroke(frame, 0, Stroke::new(1.0, Colors::of(ui).line), StrokeKind::Outside);
        let response = ui.interact(rect, ui.scope_id().with(title), Sense::hover());
        response.widget_info(|| WidgetInfo::labeled(Role::Image, true, format!("Picture of {title}, {size}")));
    }
}
