//! A part of the window as PNG.
//!
//! The pixels come from `ctx.request_screenshot(…)`; [`crop`] takes the part that a plot covers.

use eframe::egui::{ColorImage, Rect};
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder as _};

use crate::error::{Error, Result};

/// The part of a screenshot under `area` (in points), without transparency.
///
/// # Errors
/// A sentence, when the area lies outside of the picture.
pub fn crop(screenshot: &ColorImage, area: Rect, pixels_per_point: f32) -> Result<ColorImage> {
    let [width, height] = screenshot.size;
    let pixel = |points: f32, end: usize| ((points * pixels_per_point).round().max(0.0) as usize).min(end);
    let (left, right) = (pixel(area.left(), width), pixel(area.right(), width));
    let (top, bottom) = (pixel(area.top(), height), pixel(area.bottom(), height));
    if left >= right || top >= bottom {
        return Err(Error::failure("the picture to be saved is not on screen"));
    }
    let rows = screenshot.pixels.chunks(width).take(bottom).skip(top);
    let pixels = rows.flat_map(|row| &row[left..right]).map(|c| c.to_opaque()).collect();
    Ok(ColorImage::new([right - left, bottom - top], pixels))
}

/// An image as the bytes of a PNG file.
///
/// # Errors
/// A sentence, when it cannot be encoded.
pub fn encode(image: &ColorImage) -> Result<Vec<u8>> {
    let [width, height] = image.size;
    let bytes: Vec<u8> = image.pixels.iter().flat_map(|c| c.to_srgba_unmultiplied()).collect();
    let mut png = vec![];
    let size = |side: usize| u32::try_from(side).map_err(|_| Error::failure("the picture is too large for a PNG"));
    PngEncoder::new(&mut png)
        .write_image(&bytes, size(width)?, size(height)?, ExtendedColorType::Rgba8)
        .map_err(|e| Error::failure(format!("cannot encode the picture as PNG: {e}")))?;
    Ok(png)
}

#[cfg(test)]
mod tests {
    use super::*;
    use eframe::egui::{Color32, pos2};

    #[test]
    fn a_part_comes_back_as_it_was() {
        let pixels = (0..12).map(|i| Color32::from_rgb(i * 20, 0, 255 - i)).collect();
        let screenshot = ColorImage::new([4, 3], pixels);
        // Two pixels per point; the area reaches beyond the lower right corner.
        let area = Rect::from_min_max(pos2(0.5, 0.5), pos2(9.0, 9.0));
        let part = crop(&screenshot, area, 2.0).unwrap();
        assert_eq!(part.size, [3, 2]);
        assert_eq!(part.pixels[0], screenshot.pixels[5]);
        let read = image::load_from_memory(&encode(&part).unwrap()).unwrap().to_rgba8();
        assert_eq!(read.dimensions(), (3, 2));
        assert_eq!(read.get_pixel(2, 1).0, screenshot.pixels[11].to_array());
    }

    #[test]
    fn nothing_is_an_error() {
        let screenshot = ColorImage::new([4, 3], vec![Color32::RED; 12]);
        let area = Rect::from_min_max(pos2(10.0, 0.0), pos2(12.0, 2.0));
        assert!(crop(&screenshot, area, 1.0).is_err());
        assert!(crop(&screenshot, Rect::NOTHING, 1.0).is_err());
    }
}
