"""``tf.dtypes``: the dtypes of tensors."""

from stepforge.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "frontend.dtypes": (
            "DType as_dtype bfloat16 bool=bool_ complex128 complex64 double float16 float32 "
            "float64 half int16 int32 int64 int8 qint16 qint32 qint8 quint16 quint8 resource "
            "string uint16 uint32 uint64 uint8 variant"
        ),
        "frontend.elementwise_ops": "cast complex saturate_cast",
    },
)
