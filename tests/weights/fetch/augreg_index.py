"""A small index of AugReg's checkpoints, with the columns of the published one."""

from __future__ import annotations

# The columns of the published index.csv, in its order (vit_jax_augreg.ipynb), and rows in its manner: the scores are
# made up so that every choice has one right answer; the best fine-tuning is not of the best pre-training.
INDEX = """\
name,ds,epochs,lr,aug,wd,do,sd,best_val,final_val,final_test,adapt_ds,adapt_lr,adapt_steps,adapt_resolution,\
adapt_final_val,adapt_final_test,params,infer_samples_per_sec,filename,adapt_filename
B/16,i21k,300,0.001,medium1,0.1,0.0,0.0,0.51,0.50,0.49,imagenet2012,0.03,20000,384,0.90,0.85486,86859496,137.92,B_16-i21k-m1,B_16-i21k-m1--imagenet2012-res_384
B/16,i21k,300,0.001,medium1,0.1,0.0,0.0,0.51,0.50,0.49,imagenet2012,0.01,20000,384,0.89,0.85,86859496,137.92,B_16-i21k-m1,B_16-i21k-m1--imagenet2012-slow-res_384
B/16,i21k,300,0.001,medium1,0.1,0.0,0.0,0.51,0.50,0.49,imagenet2012,0.03,20000,224,0.88,0.84,86567656,400.0,B_16-i21k-m1,B_16-i21k-m1--imagenet2012-res_224
B/16,i21k,300,0.001,medium1,0.1,0.0,0.0,0.51,0.50,0.49,cifar100,0.03,10000,384,0.99,0.93,86859496,137.92,B_16-i21k-m1,B_16-i21k-m1--cifar100-res_384
B/16,i21k,300,0.001,light1,0.03,0.0,0.0,0.49,0.48,0.47,imagenet2012,0.03,20000,384,0.91,0.852,86859496,137.92,B_16-i21k-l1,B_16-i21k-l1--imagenet2012-res_384
B/16,i21k_30,30,0.001,light1,0.1,0.1,0.1,0.46,0.45,0.44,imagenet2012,0.03,20000,384,0.87,0.83,86859496,137.92,B_16-i21k-30,B_16-i21k-30--imagenet2012-res_384
B/16,i1k,300,0.001,light1,0.1,0.0,0.0,0.79,0.78,0.77,imagenet2012,0.03,20000,384,0.80,0.79,86859496,137.92,B_16-i1k-l1,B_16-i1k-l1--imagenet2012-res_384
B/16,i1k,300,0.001,strong1,0.1,0.1,0.1,0.83,0.82,0.81,imagenet2012,0.03,20000,384,0.84,0.82,86859496,137.92,B_16-i1k-s1,B_16-i1k-s1--imagenet2012-res_384
R50+L/32,i21k,300,0.001,medium1,0.1,0.1,0.1,0.5,0.5,0.5,imagenet2012,0.01,20000,384,0.9,0.85992,328994856,326.73,R50_L_32-i21k-m1,R50_L_32-i21k-m1--imagenet2012-res_384
B/8,i21k,300,0.001,medium2,0.1,0.0,0.0,0.5,0.5,0.5,imagenet2012,0.03,20000,224,0.9,0.85578,86576872,,B_8-i21k-m2,B_8-i21k-m2--imagenet2012-res_224
"""
