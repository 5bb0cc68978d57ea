//! What is a device made of: processors, memory, power, display, loudspeaker?

use serde::{Deserialize, Serialize};

/// What a device computes with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComputeCapability {
    /// Its processor.
    pub cpu: CpuInfo,
    /// Its graphics processor.
    pub gpu: Option<GpuInfo>,
    /// Its processor for neural networks.
    pub npu: Option<NpuInfo>,
    /// Its memory.
    pub ram: RamInfo,
    /// Its disk or flash.
    pub storage: StorageInfo,
}

/// A processor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CpuInfo {
    /// How many cores it has.
    pub cores: u8,
    /// As `arm64` or `x86_64`.
    pub architecture: String,
    /// Extensions, as `neon`.
    pub features: Vec<String>,
    /// Its clock by design, in MHz.
    pub nominal_mhz: u32,
    /// Its clock now, in MHz.
    pub current_mhz: u32,
}

/// A graphics processor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GpuInfo {
    /// Whether there is one.
    pub present: bool,
    /// As `integrated`.
    #[serde(rename = "type")]
    pub gpu_type: String,
    /// 10¹² floating-point operations a second.
    pub tflops: f32,
    /// Its memory in MB.
    pub memory_mb: u32,
}

/// A processor for neural networks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NpuInfo {
    /// Whether there is one.
    pub present: bool,
    /// 10¹² operations a second.
    pub tops: f32,
    /// As `int8`.
    pub supported_precisions: Vec<String>,
}

/// Memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RamInfo {
    /// All of it, in MB.
    pub total_mb: u32,
    /// What is free, in MB.
    pub free_mb: u32,
    /// As `lpddr5`.
    #[serde(rename = "type")]
    pub ram_type: String,
}

/// A disk or flash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StorageInfo {
    /// All of it, in GB.
    pub total_gb: u32,
    /// What is free, in GB.
    pub free_gb: u32,
    /// As `emmc`.
    #[serde(rename = "type")]
    pub storage_type: String,
    /// MB it reads a second.
    pub throughput_mbps: u32,
}

/// Where a device's power comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PowerCapability {
    /// The source.
    pub source: PowerSource,
    /// How full the battery is, in percent.
    pub battery_pct: Option<u8>,
    /// How long it will last, in minutes.
    pub estimated_runtime_mins: Option<u32>,
    /// Whether it is being charged.
    pub charging: bool,
    /// The most that the device draws, in watts.
    pub max_power_draw_w: f32,
    /// What it draws now, in watts.
    pub current_power_draw_w: f32,
}

/// A source of power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PowerSource {
    /// A battery.
    Battery,
    /// The mains.
    Wired,
    /// The sun.
    Solar,
    /// Several of them.
    Hybrid,
}

/// How a device is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCapability {
    /// How long it has been up, in seconds.
    pub uptime_s: u64,
    /// How far it is from slowing down for heat, in percent.
    pub thermal_headroom_pct: u8,
    /// How busy its processor is, in percent.
    pub cpu_load_pct: u8,
    /// How full its memory is, in percent.
    pub memory_pressure_pct: u8,
    /// How steady its network is, in percent.
    pub network_stability_pct: u8,
}

/// What a device shows on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DisplayCapability {
    /// Whether there is one.
    pub present: bool,
    /// Width and height in pixels.
    pub resolution: (u16, u16),
    /// Pictures a second.
    pub refresh_rate_hz: u8,
    /// Whether it feels touch.
    pub touch_capable: bool,
    /// The most light, in candela per square metre.
    pub brightness_nits: u16,
    /// The light now, in percent of it.
    pub current_brightness_pct: u8,
}

/// What a device plays on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioCapability {
    /// Its loudspeaker.
    pub output: Option<AudioOutput>,
    /// Whether it plays spatial audio.
    pub spatial_audio: bool,
    /// Codecs, as `opus`.
    pub formats: Vec<String>,
}

/// A loudspeaker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioOutput {
    /// Whether there is one.
    pub present: bool,
    /// Its channels.
    pub channels: u8,
    /// Its loudest, in dB of sound pressure.
    pub max_spl_db: u8,
    /// Its lowest and highest frequency, in Hz.
    pub frequency_response: (u32, u32),
}
