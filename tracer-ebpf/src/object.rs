//! What every object carries.

// The kernel compares the whole section with "GPL" or "Dual MIT/GPL"; without it the tracing helpers are refused.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never reached: the programs have no panicking path, and the verifier would refuse one.
#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
