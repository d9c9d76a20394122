//! `../aot_c/main.c` in Rust: reads handwritten digits with a classifier that was trained in Python
//! and compiled ahead of time (`../aot_c/make_digits.py`).
//!
//!     rustc --edition 2021 main.rs -L . -l digits -C link-arg=-Wl,-rpath,. && ./main held_out.bin

use std::ffi::{c_char, c_void, CStr};
use std::{env, fs, process};

const PIXELS: usize = 64;

// The declarations of digits.h.
extern "C" {
    fn predict(pixels: *const f32, n: i64, argmax: *mut i64, workspace: *mut c_void) -> i32;
    fn predict_workspace(n: i64) -> i64;
    fn predict_message(status: i32, workspace: *mut c_void) -> *const c_char;
}

/// The digits in rows of pixels, or why the step could not tell them.
fn digits(pixels: &[f32]) -> Result<Vec<i64>, String> {
    let count = pixels.len() / PIXELS;
    let mut guessed = vec![0; count];
    let bytes = unsafe { predict_workspace(count as i64) } as usize;
    let mut memory = vec![0u64; bytes.div_ceil(8)];
    let workspace = memory.as_mut_ptr().cast();
    let (from, into) = (pixels.as_ptr(), guessed.as_mut_ptr());
    let status = unsafe { predict(from, count as i64, into, workspace) };
    if status == 0 {
        return Ok(guessed);
    }
    let text = unsafe { CStr::from_ptr(predict_message(status, workspace)) };
    Err(text.to_string_lossy().into_owned())
}

/// The next `count` values of `bytes`, each of `N` bytes.
fn values<const N: usize, T>(bytes: &mut &[u8], count: usize, read: fn([u8; N]) -> T) -> Vec<T> {
    let (head, rest) = bytes.split_at(count * N);
    *bytes = rest;
    head.chunks_exact(N).map(|one| read(one.try_into().unwrap())).collect()
}

fn main() {
    let path = env::args().nth(1).unwrap_or("held_out.bin".into());
    let file = fs::read(&path).unwrap_or_else(|error| {
        eprintln!("cannot read {path}: {error}");
        process::exit(1)
    });
    let mut bytes = &file[..];
    let images = values(&mut bytes, 1, i64::from_le_bytes)[0] as usize;
    let pixels = values(&mut bytes, images * PIXELS, f32::from_le_bytes);
    let labels = values(&mut bytes, images, i64::from_le_bytes);
    match digits(&pixels) {
        Ok(guessed) => {
            let right = guessed.iter().zip(&labels).filter(|(a, b)| a == b).count();
            let percent = 100.0 * right as f64 / images as f64;
            println!("in Rust: {percent:.2}% of {images} images");
        }
        Err(text) => {
            eprintln!("{text}");
            process::exit(1);
        }
    }
}
