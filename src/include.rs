//! Models that are parts of programs.

/// Opens a compiled model that becomes a part of the program, as `include_bytes!` takes a file: a path that is relative to
/// the source, or one that a macro such as `env!` gives. Its weights stay where the program has them, in memory that
/// processes share; nothing of them is copied.
///
/// A second argument says how the model runs: [`ModelOptions`](crate::ModelOptions).
///
/// ```ignore
/// // netc compile digits.net --target-features avx2 -o src/digits.netc
/// let model = netc::include_model!("digits.netc")?;
/// model.run(&[&image], &mut [&mut logits])?;
/// ```
///
/// The file's code is as much a part of the program as its sources are: include only what netc wrote, for somebody whose
/// programs you would run. Each use has the bytes once in the program, so that a model is opened in one place.
///
/// # Errors
/// Gives a `Result`: an [`OpenError`](crate::OpenError) where the file is no undamaged model for this machine.
#[macro_export]
macro_rules! include_model {
    ($path:expr $(, $options:expr)? $(,)?) => {{
        #[repr(C, align(4096))]
        struct Page<T: ?Sized>(T);
        static MODEL: &Page<[u8]> = &Page(*include_bytes!($path));
        // What is given, or else the usual ones.
        let [options, ..] = [$($options,)? $crate::ModelOptions::default()];
        // SAFETY: whoever writes the program chose the file, as they chose its sources.
        #[allow(unsafe_code)]
        unsafe {
            $crate::Model::from_static(&MODEL.0, options)
        }
    }};
}
