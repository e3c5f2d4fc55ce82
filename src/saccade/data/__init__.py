"""Data formats, one file each: image folder, COCO, YOLO, video, camera and RTSP."""
