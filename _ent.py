import time, tempfile
from pathlib import Path
from kdna_deploy.onnx import quantize as q
from kdna_deploy.int8_export import export_int8, Int8Options
from kdna_deploy.onnx_export import OnnxOptions
from kdna_deploy.held_out import split_images
from kdna_deploy.image_data import Preprocessing
from tests.samples import fused_sample, RESNET, MOBILENET
from tests.conftest import SAMPLES
D=SAMPLES/"digits"
orig=q.create_calibrator
for name in (RESNET, MOBILENET):
  for method,bins in (("minmax",None),("entropy",None),("entropy",512),("entropy",2048)):
    def cc(*a, **k):
        if bins: k["extra_options"]={"num_bins":bins,"num_quantized_bins":128}
        return orig(*a,**k)
    q.create_calibrator=cc
    t=time.process_time()
    d=export_int8(fused_sample(name), Path(tempfile.mkdtemp())/"n.onnx", OnnxOptions(simplify=False), Int8Options(split_images(D,None,(3,64,64),Preprocessing(),10),method))
    print(name,method,bins,d.evaluation.agreement, round(time.process_time()-t,1),flush=True)
