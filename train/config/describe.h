// The description functions of all option structs: the only place where keys, defaults, ranges
// and documentation meet. Implemented in describe_*.cc.
#pragma once
#include "tenun/train/config/options_run.h"

namespace tenun {

void describe(Fields& f, NoOptions& o);
void describe(Fields& f, OpenOptions& o);
void describe(Fields& f, LowBitOptions& o);
void describe(Fields& f, AttentionOptions& o);
void describe(Fields& f, AttentionRange& o);
void describe(Fields& f, JiTOptions& o);                        ///< class JiT
void describe_jit_sla2(Fields& f, JiTOptions& o);               ///< class JiTSLA2
void describe_flow_trainer(Fields& f, FlowTrainerOptions& o);   ///< FlowMatchingTrainer
void describe_pixel_trainer(Fields& f, FlowTrainerOptions& o);  ///< PixelFlowMatchingTrainer
void describe(Fields& f, FlowTrainerOptions& o);                ///< JiTTrainer
/// How many of the perceptual losses a REPATrainer has.
enum class RepaLosses { features, jit, lpips, dino, gated };
void describe_repa(Fields& f, RepaTrainerOptions& o, RepaLosses losses);
void describe(Fields& f, EulerSamplerOptions& o);
void describe(Fields& f, HeunSamplerOptions& o);
void describe(Fields& f, AdamLMSamplerOptions& o);
void describe(Fields& f, PixelAEOptions& o);
void describe(Fields& f, LatentAEOptions& o);
void describe(Fields& f, LabelConditionerOptions& o);
void describe(Fields& f, PlaceHolderConditionerOptions& o);
void describe(Fields& f, DinoEncoderOptions& o);

void describe(Fields& f, AdamWOptions& o);
void describe(Fields& f, SgdOptions& o);
void describe(Fields& f, MuonGroupOptions& o);
void describe(Fields& f, MuonAuxOptions& o);
void describe(Fields& f, MuonConfig& o);
void describe(Fields& f, ConstantWithWarmupOptions& o);
void describe(Fields& f, CosineWithWarmupOptions& o);
void describe(Fields& f, CheckpointOptions& o);
void describe(Fields& f, SaveImagesOptions& o);
void describe(Fields& f, EmaOptions& o);
void describe(Fields& f, GradientMonitorOptions& o);
void describe(Fields& f, LRResyncOptions& o);
void describe(Fields& f, MidTrainingSamplerOptions& o);
void describe(Fields& f, SampleGridOptions& o);
void describe(Fields& f, Sla2QatOptions& o);
void describe(Fields& f, RouterScheduleOptions& o);
void describe(Fields& f, Sla2TwoStageOptions& o);
void describe(Fields& f, AttentionMonitorOptions& o);
void describe(Fields& f, WandbLoggerOptions& o);
void describe(Fields& f, TensorBoardLoggerOptions& o);

void describe(Fields& f, ImageFolderOptions& o);
void describe(Fields& f, BatikDatasetOptions& o);
void describe(Fields& f, RandomNOptions& o);
void describe(Fields& f, TrainerOptions& o);
void describe(Fields& f, ModelOptions& o);
void describe(Fields& f, DataOptions& o);

}  // namespace tenun
